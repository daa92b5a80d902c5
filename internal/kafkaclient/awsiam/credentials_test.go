package awsiam

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const role = "arn:aws:iam::123456789012:role/team/reader"

// alone takes away what the machine of the test has of AWS.
func alone(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// tokenService is an STS for the test. It notes what it was asked.
type tokenService struct {
	mu    sync.Mutex
	asked []string
	fails bool
}

func startSTS(t *testing.T) *tokenService {
	t.Helper()
	s := &tokenService{}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	t.Setenv("AWS_ENDPOINT_URL_STS", srv.URL)
	return s
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	credential, _, _ := strings.Cut(r.Header.Get("Authorization"), ",")
	s.asked = append(s.asked, fmt.Sprintf("%s %s %s %s by %s", action, r.Form.Get("RoleArn"), r.Form.Get("RoleSessionName"), r.Form.Get("ExternalId"), credential))
	w.Header().Set("Content-Type", "text/xml")
	if s.fails {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized, s3cret/own</Message></Error></ErrorResponse>`)
		return
	}
	fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId>`+
		`<SecretAccessKey>s3cret/role</SecretAccessKey><SessionToken>tok</SessionToken><Expiration>%[2]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		action, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

func TestCredentials(t *testing.T) {
	find := func(t *testing.T, o Options) string {
		t.Helper()
		found, err := (&credentialsOf{options: o}).find(t.Context())
		require.NoError(t, err)
		return found.AccessKeyID + " " + found.SecretAccessKey + " " + found.SessionToken
	}
	t.Run("environment", func(t *testing.T) {
		alone(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret/env")
		require.Equal(t, "AKIDENV s3cret/env ", find(t, Options{}))
	})
	t.Run("profile", func(t *testing.T) {
		dir := alone(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret/env")
		write(t, filepath.Join(dir, "credentials"), "[default]\naws_access_key_id=AKIDDEFAULT\naws_secret_access_key=s3cret/default\n[msk]\naws_access_key_id=AKIDMSK\naws_secret_access_key=s3cret/msk\n")
		require.Equal(t, "AKIDMSK s3cret/msk ", find(t, Options{Profile: "msk"}), "a profile that is named wins over the environment")
		_, err := (&credentialsOf{options: Options{Profile: "none"}}).find(t.Context())
		var e *Error
		require.ErrorAs(t, err, &e)
		require.ErrorContains(t, err, "none")
	})
	t.Run("web identity", func(t *testing.T) {
		dir, s := alone(t), startSTS(t)
		write(t, filepath.Join(dir, "token"), "a.b.c")
		t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", filepath.Join(dir, "token"))
		t.Setenv("AWS_ROLE_ARN", role)
		t.Setenv("AWS_REGION", "eu-west-1")
		require.Equal(t, "ASIAROLE s3cret/role tok", find(t, Options{}))
		require.Contains(t, s.asked[0], "AssumeRoleWithWebIdentity "+role)
	})
	t.Run("instance", func(t *testing.T) {
		alone(t)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/latest/api/token":
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "600")
				fmt.Fprint(w, "t")
			case "/latest/meta-data/iam/security-credentials/":
				fmt.Fprint(w, "the-role")
			default:
				fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"ASIAINSTANCE","SecretAccessKey":"s3cret/instance","Token":"tok","Expiration":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
			}
		}))
		t.Cleanup(srv.Close)
		t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
		t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", srv.URL)
		require.Equal(t, "ASIAINSTANCE s3cret/instance tok", find(t, Options{}))
	})
	t.Run("role with own keys", func(t *testing.T) {
		alone(t)
		s := startSTS(t)
		o, err := ParseOptions(map[string]string{
			"awsRoleArn": role, "awsRoleSessionName": "klink-1", "awsRoleExternalId": "ext-1", "awsStsRegion": "eu-central-1",
			"awsRoleAccessKeyId": "AKIDOWN", "awsRoleSecretAccessKey": "s3cret/own",
		})
		require.NoError(t, err)
		c := &credentialsOf{options: o}
		for range 3 {
			found, err := c.find(t.Context())
			require.NoError(t, err)
			require.Equal(t, "ASIAROLE", found.AccessKeyID)
		}
		require.Len(t, s.asked, 1, "credentials are kept")
		require.Contains(t, s.asked[0], "AssumeRole "+role+" klink-1 ext-1 by ")
		require.Contains(t, s.asked[0], "AKIDOWN/")
		require.Contains(t, s.asked[0], "/eu-central-1/sts/")
		s.fails = true
		_, err = (&credentialsOf{options: o}).find(t.Context())
		require.ErrorContains(t, err, "not authorized, [hidden]")
		require.NotContains(t, err.Error(), "s3cret")
	})
	t.Run("role of the machine", func(t *testing.T) {
		alone(t)
		s := startSTS(t)
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret/env")
		require.Equal(t, "ASIAROLE s3cret/role tok", find(t, Options{RoleARN: role, RoleSessionName: defaultSessionName}))
		require.Contains(t, s.asked[0], "AssumeRole "+role+" aws-msk-iam-auth  by AWS4-HMAC-SHA256 Credential=AKIDENV/")
		require.Contains(t, s.asked[0], "/us-east-1/sts/", "the region of the global endpoint")
	})
	t.Run("none", func(t *testing.T) {
		alone(t)
		_, err := (&credentialsOf{}).find(t.Context())
		require.ErrorContains(t, err, "no AWS credentials: ")
	})
}

func TestParseOptions(t *testing.T) {
	for options, text := range map[string]string{
		"":                 "",
		"awsProfileName=p": "",
		"awsDebugCreds=true awsMaxRetries=7 awsMaxBackOffTimeMs=5 other=x": "",
		"awsRoleArn=" + role:                                      "",
		"awsRoleArn=" + role + " awsProfileName=p":                "give one of them",
		"awsRoleArn=arn:aws:s3:::S3CRET":                          "option awsRoleArn has not the form",
		"awsRoleArn=":                                             "option awsRoleArn is empty",
		"awsStsRegion=evil.example/S3CRET":                        "option awsStsRegion has not the form",
		"awsRoleSessionName=a/b":                                  "option awsRoleSessionName has not the form",
		"awsRoleArn=" + role + " awsRoleAccessKeyId=S3CRET":       "give both or none",
		"awsRoleAccessKeyId=S3CRET awsRoleSecretAccessKey=S3CRET": "option awsRoleArn is missing",
		"awsRoleExternalId=S3CRET":                                "option awsRoleArn is missing",
		"awsSomethingElse=S3CRET":                                 "option awsSomethingElse: klink does not know it",
	} {
		given := map[string]string{}
		for _, o := range strings.Fields(options) {
			name, value, _ := strings.Cut(o, "=")
			given[name] = value
		}
		_, err := ParseOptions(given)
		if text == "" {
			require.NoError(t, err, options)
			continue
		}
		require.ErrorContains(t, err, text, options)
		require.NotContains(t, err.Error(), "S3CRET")
	}
}
