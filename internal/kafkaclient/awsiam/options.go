package awsiam

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Options say whose credentials sign.
type Options struct {
	// Profile is a profile of the files of the AWS SDK. Empty = its chain: environment, web identity,
	// default profile, container, instance.
	Profile string
	// RoleARN is a role to assume. Empty = none.
	RoleARN, RoleSessionName, RoleExternalID string
	// STSRegion is the region of the service that gives the role.
	STSRegion string
	// AccessKeyID, SecretAccessKey and SessionToken assume the role. Without them the chain's do.
	AccessKeyID, SecretAccessKey, SessionToken string
}

const defaultSessionName = "aws-msk-iam-auth"

var (
	region      = regexp.MustCompile(`^[a-z0-9-]{1,40}$`) // it becomes a part of a host's name
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[\w+=,.@:/-]{2,1000}$`)
	roleARN     = regexp.MustCompile(`^arn:[a-z0-9-]{1,20}:iam::[0-9]{12}:role/[!-~]{1,600}$`)
)

// harmless are options of MSK's module that do not say whose credentials sign. klink has limits of
// its own, and logs no identities.
var harmless = []string{"awsDebugCreds", "awsMaxRetries", "awsMaxBackOffTimeMs"}

// ParseOptions reads the options of MSK's login module. An error names the option and shows no
// value.
func ParseOptions(options map[string]string) (Options, error) {
	o := Options{RoleSessionName: defaultSessionName}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value, form := options[name], (*regexp.Regexp)(nil)
		switch name {
		case "awsProfileName":
			o.Profile = value
		case "awsRoleArn":
			o.RoleARN, form = value, roleARN
		case "awsRoleSessionName":
			o.RoleSessionName, form = value, sessionName
		case "awsRoleExternalId":
			o.RoleExternalID, form = value, externalID
		case "awsStsRegion":
			o.STSRegion, form = value, region
		case "awsRoleAccessKeyId":
			o.AccessKeyID = value
		case "awsRoleSecretAccessKey":
			o.SecretAccessKey = value
		case "awsRoleSessionToken":
			o.SessionToken = value
		default:
			if strings.HasPrefix(name, "aws") && !slices.Contains(harmless, name) {
				return o, fmt.Errorf("option %.80s: klink does not know it", name)
			}
			continue
		}
		if value == "" {
			return o, fmt.Errorf("option %s is empty", name)
		}
		if form != nil && !form.MatchString(value) {
			return o, fmt.Errorf("option %s has not the form that AWS gives it", name)
		}
	}
	switch {
	case o.Profile != "" && o.RoleARN != "":
		return o, errors.New("options awsProfileName and awsRoleArn: give one of them; a profile can name a role itself")
	case (o.AccessKeyID == "") != (o.SecretAccessKey == ""):
		return o, errors.New("options awsRoleAccessKeyId and awsRoleSecretAccessKey: give both or none")
	case o.RoleARN == "" && (o.AccessKeyID != "" || o.RoleExternalID != "" || o.SessionToken != ""):
		return o, errors.New("option awsRoleArn is missing: the other options awsRole* are for it")
	}
	return o, nil
}

// Own reports whether the options have credentials themselves. If not, those of this machine sign.
func (o Options) Own() bool { return o.AccessKeyID != "" }
