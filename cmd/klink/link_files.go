package main

import (
	"fmt"

	"klink/internal/config"
	"klink/internal/kafkaclient"
)

// linkFiles returns the files, token endpoints and credentials that links may use. It refuses a
// directory that holds one of klink's own keys or tokens: otherwise anybody who may create links
// could make klink show its own certificate, or send its own token, to their server.
//
// written are the properties of --destination-config as they are in the file, destination what
// their references stand for.
func linkFiles(cfg *config.Serve, written, destination kafkaclient.Properties) (kafkaclient.Files, error) {
	const setting = "link-file-directories"
	files, err := kafkaclient.LinkFiles(cfg.LinkFileDirectories)
	if err != nil {
		return files, &config.Error{Setting: setting, Problem: err.Error()}
	}
	if files, err = files.WithEndpoints(cfg.LinkTokenEndpoints); err != nil {
		return files, &config.Error{Setting: "link-token-endpoints", Problem: err.Error()}
	}
	if cfg.LinkAWSCredentials == "on" {
		files = files.WithAWS()
	}
	type own struct{ name, path string }
	var all []own
	for _, l := range cfg.Listeners {
		all = append(all, own{"--tls-key-file", l.TLSKeyFile})
	}
	all = append(all, []own{
		{"--secrets-key-file", cfg.SecretsKeyFile},
		{"--destination-config", cfg.DestinationConfig},
		{"--config", cfg.Config},
		{"--credential-map-file", cfg.CredentialMapFile},
		{"--sasl-credentials-file", cfg.SASLCredentialsFile},
	}...)
	for _, f := range destination.LoginFiles() {
		all = append(all, own{f.Property + " of --destination-config", f.Path})
	}
	for _, path := range written.ReferencedFiles() {
		all = append(all, own{"a reference in --destination-config", path})
	}
	for _, own := range all {
		if own.path != "" && files.Hold(own.path) {
			return files, &config.Error{Setting: setting, Problem: fmt.Sprintf("%s, the file of %s, is in one of them, so links could use it: keep klink's own files elsewhere", own.path, own.name)}
		}
	}
	return files, nil
}
