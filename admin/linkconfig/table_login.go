package linkconfig

import "slices"

// loginConfigs are the rows of SASL logins that need more than sasl.jaas.config. The client checks
// most of the values, as their bounds are those of any Java client.
var loginConfigs = []Config{
	{
		Name: "sasl.login.callback.handler.class", Type: TypeString, Custody: Unconcerned, Importance: "low", Connection: true,
		Allowed: "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler, also with .secured. in it",
		Doc:     "What a Java client needs for OAUTHBEARER with a token endpoint. klink can do without it.",
	},
	{
		Name: "sasl.client.callback.handler.class", Type: TypeString, Custody: Unconcerned, Importance: "low", Connection: true,
		Allowed: "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
		Doc:     "What a Java client needs for AWS_MSK_IAM. klink can do without it.",
	},
	{
		// Whoever receives a request there gets the client secret.
		Name: "sasl.oauthbearer.token.endpoint.url", Type: TypeString, Custody: Decides, Importance: "high", Connection: true,
		Allowed: "https://HOST/PATH or file:///PATH; http only to a loopback address or with SASL_PLAINTEXT, and if klink's --link-token-endpoints names it",
		Doc:     "Where klink gets access tokens for OAUTHBEARER: from a token endpoint with the grant client_credentials, or from a file on klink's machine and in its `--link-file-directories`, which klink reads again before the token in it expires. klink trusts the endpoint's certificate if the system's authorities have signed it, or those that the ssl.* options in sasl.jaas.config name.",
	},
	{
		Name: "sasl.oauthbearer.client.credentials.client.id", Type: TypeString, Custody: Unconcerned, Importance: "medium", Connection: true,
		Doc: "The client id at the token endpoint. It wins over the option clientId in sasl.jaas.config.",
	},
	{
		Name: "sasl.oauthbearer.client.credentials.client.secret", Type: TypePassword, Custody: Secret, Sensitive: true, Importance: "medium", Connection: true,
		Doc: "The client secret at the token endpoint. It wins over the option clientSecret in sasl.jaas.config.",
	},
	{
		Name: "sasl.oauthbearer.scope", Type: TypeString, Custody: Unconcerned, Importance: "medium", Connection: true,
		Doc: "The scope to ask the token endpoint for. It wins over the option scope in sasl.jaas.config.",
	},
	{
		Name: "sasl.oauthbearer.header.urlencode", Type: TypeBoolean, Custody: Unconcerned, Default: "false", Importance: "low", Connection: true,
		Doc: "true: klink URL-encodes the client id and secret in the request to the token endpoint, as RFC 6749 asks for.",
	},
	{
		Name: "sasl.oauthbearer.jwt.retriever.class", Type: TypeString, Custody: Unconcerned, Importance: "low", Connection: true,
		Allowed: "DefaultJwtRetriever, ClientCredentialsJwtRetriever or FileJwtRetriever in org.apache.kafka.common.security.oauthbearer",
		Doc:     "Accepted so that existing files work; the URL says where tokens come from.",
	},
	{
		Name: "sasl.oauthbearer.scope.claim.name", Type: TypeString, Custody: Unconcerned, Importance: "low",
		Doc: "Accepted so that existing files work, but has no effect: klink does not look at the scope in a token.",
	},
	{
		Name: "sasl.oauthbearer.sub.claim.name", Type: TypeString, Custody: Unconcerned, Importance: "low",
		Doc: "Accepted so that existing files work, but has no effect: klink does not look at the subject of a token.",
	},
	{
		Name: "sasl.login.connect.timeout.ms", Type: TypeInt, Custody: Unconcerned, Default: "10000", Importance: "low", Connection: true, Allowed: "1 to 3600000", check: between(1, 3600000),
		Doc: "How long connecting to the token endpoint may take, in milliseconds.",
	},
	{
		Name: "sasl.login.read.timeout.ms", Type: TypeInt, Custody: Unconcerned, Default: "10000", Importance: "low", Connection: true, Allowed: "1 to 3600000", check: between(1, 3600000),
		Doc: "How long the token endpoint may take to answer, in milliseconds.",
	},
	{
		Name: "sasl.login.retry.backoff.ms", Type: TypeInt, Custody: Unconcerned, Default: "100", Importance: "low", Connection: true, Allowed: "1 to 3600000", check: between(1, 3600000),
		Doc: "How long to wait before klink asks a token endpoint again that has failed, in milliseconds; the wait doubles up to sasl.login.retry.backoff.max.ms.",
	},
	{
		Name: "sasl.login.retry.backoff.max.ms", Type: TypeInt, Custody: Unconcerned, Default: "10000", Importance: "low", Connection: true, Allowed: "1 to 3600000", check: between(1, 3600000),
		Doc: "The longest wait between two requests to a token endpoint that fails, in milliseconds.",
	},
	{
		Name: "sasl.login.refresh.window.factor", Type: TypeString, Custody: Unconcerned, Default: "0.8", Importance: "low", Connection: true, Allowed: "0.5 to 1.0",
		Doc: "After which part of a token's life klink gets the next one.",
	},
	{
		Name: "sasl.login.refresh.window.jitter", Type: TypeString, Custody: Unconcerned, Default: "0.05", Importance: "low", Connection: true, Allowed: "0 to 0.25",
		Doc: "The most that is added to sasl.login.refresh.window.factor, at random.",
	},
	{
		Name: "sasl.login.refresh.min.period.seconds", Type: TypeInt, Custody: Unconcerned, Default: "60", Importance: "low", Connection: true, Allowed: "0 to 900", check: between(0, 900),
		Doc: "The least time between two tokens, in seconds, if they live for longer than this and sasl.login.refresh.buffer.seconds.",
	},
	{
		Name: "sasl.login.refresh.buffer.seconds", Type: TypeInt, Custody: Unconcerned, Default: "300", Importance: "low", Connection: true, Allowed: "0 to 3600", check: between(0, 3600),
		Doc: "How long before the end of a token klink gets the next one at the latest, in seconds, if tokens live for longer than this and sasl.login.refresh.min.period.seconds.",
	},
}

// after returns rows with more behind the one of a name.
func after(name string, more, rows []Config) []Config {
	i := slices.IndexFunc(rows, func(c Config) bool { return c.Name == name })
	return slices.Insert(rows, i+1, more...)
}
