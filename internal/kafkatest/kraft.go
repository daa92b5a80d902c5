package kafkatest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// prepareKRaft writes the configuration of all nodes and formats their directories.
func (c *Cluster) prepareKRaft() error {
	if err := os.WriteFile(c.log4jPath(), []byte(log4jConfig), 0o644); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	for _, b := range c.brokers {
		if err := writeProperties(b.configPath(), c.kraftConfig(b)); err != nil {
			return err
		}
	}
	for _, b := range c.brokers {
		if err := c.format(b); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) kraftConfig(b *Broker) map[string]string {
	var voters []string
	for _, v := range c.brokers {
		voters = append(voters, fmt.Sprintf("%d@%s", v.id, v.listener(controllerPort)))
	}
	conf := map[string]string{
		"process.roles":            "broker,controller",
		"node.id":                  strconv.Itoa(b.id),
		"controller.quorum.voters": strings.Join(voters, ","),
		"listeners": fmt.Sprintf("CLIENT://%s,INTERNAL://%s,CONTROLLER://%s",
			b.listener(clientPort), b.listener(internalPort), b.listener(controllerPort)),
		"advertised.listeners":           fmt.Sprintf("CLIENT://%s,INTERNAL://%s", b.Addr(), b.internal()),
		"listener.security.protocol.map": fmt.Sprintf("CLIENT:%s,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT", c.opts.protocol),
		"inter.broker.listener.name":     "INTERNAL",
		"controller.listener.names":      "CONTROLLER",
		"log.dirs":                       b.dir,

		// The cluster admits a node that comes back after a crash only when its former session has
		// expired.
		"broker.session.timeout.ms":    "6000",
		"broker.heartbeat.interval.ms": "1000",

		"share.coordinator.state.topic.num.partitions":     "3",
		"share.coordinator.state.topic.replication.factor": strconv.Itoa(c.opts.replication()),
		"share.coordinator.state.topic.min.isr":            strconv.Itoa(c.opts.inSync()),
	}
	for _, l := range c.opts.listeners {
		addr := b.ListenerAddr(l.name)
		conf["listeners"] += "," + l.name + "://" + addr
		if l.advertised != "" {
			addr = l.advertised
		}
		conf["advertised.listeners"] += "," + l.name + "://" + addr
		conf["listener.security.protocol.map"] += "," + l.name + ":" + l.protocol
		if l.protocol == "SSL" {
			maps.Copy(conf, c.tls.brokerConfig(l.name, ""))
		}
	}
	maps.Copy(conf, c.commonConfig())
	if c.opts.racks {
		conf["broker.rack"] = fmt.Sprintf("rack-%d", b.id)
		conf["replica.selector.class"] = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
	}
	if c.opts.tls() {
		maps.Copy(conf, c.tls.brokerConfig("client", c.opts.clientAuth))
	}
	if c.opts.authorizer {
		maps.Copy(conf, authorizerConfig())
		conf["listener.name.client.ssl.principal.mapping.rules"] = "RULE:^CN=([^,]+).*$/$1/,DEFAULT"
	}
	if c.opts.sasl() {
		maps.Copy(conf, c.saslConfig())
	}
	maps.Copy(conf, c.opts.configs)
	return conf
}

// commonConfig returns the configs of every release: small internal topics, few threads, no waiting
// for members that never come.
func (c *Cluster) commonConfig() map[string]string {
	replication, inSync := strconv.Itoa(c.opts.replication()), strconv.Itoa(c.opts.inSync())
	return map[string]string{
		"num.partitions":                           "1",
		"default.replication.factor":               replication,
		"min.insync.replicas":                      inSync,
		"offsets.topic.num.partitions":             "3",
		"offsets.topic.replication.factor":         replication,
		"transaction.state.log.num.partitions":     "3",
		"transaction.state.log.replication.factor": replication,
		"transaction.state.log.min.isr":            inSync,
		"auto.create.topics.enable":                "false",
		"group.initial.rebalance.delay.ms":         "0",

		"num.network.threads":                                         "2",
		"num.io.threads":                                              "4",
		"background.threads":                                          "2",
		"num.recovery.threads.per.data.dir":                           "1",
		"log.cleaner.dedupe.buffer.size":                              "4194304", // default: 128 MiB
		"replica.fetch.wait.max.ms":                                   "100",
		"controlled.shutdown.retry.backoff.ms":                        "200",
		"offsets.retention.check.interval.ms":                         "600000",
		"transaction.abort.timed.out.transaction.cleanup.interval.ms": "2000",
	}
}

// authorizerConfig turns the authorizer on: users may do nothing until an ACL says so. Brokers and
// controllers have listeners of their own, on which they are ANONYMOUS.
func authorizerConfig() map[string]string {
	return map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users":           "User:" + SuperUser + ";User:ANONYMOUS",
	}
}

// saslConfig sets up the given users on the client listener. Brokers and controllers trust each
// other, on listeners of their own.
func (c *Cluster) saslConfig() map[string]string {
	conf := map[string]string{
		"listener.name.client.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required" + c.plainUsers(),
	}
	maps.Copy(conf, authorizerConfig())
	mechanisms := []string{"PLAIN"}
	for _, u := range c.opts.scram {
		if !slices.Contains(mechanisms, u.mechanism) {
			mechanisms = append(mechanisms, u.mechanism)
		}
		key := "listener.name.client." + strings.ToLower(u.mechanism) + ".sasl.jaas.config"
		conf[key] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	}
	if c.opts.issuer != nil {
		mechanisms = append(mechanisms, "OAUTHBEARER")
		maps.Copy(conf, c.opts.oauthConfig())
	}
	conf["sasl.enabled.mechanisms"] = strings.Join(mechanisms, ",")
	return conf
}

// plainUsers returns the users of SASL/PLAIN as they end the entry of a login module.
func (c *Cluster) plainUsers() (entry string) {
	for _, name := range slices.Sorted(maps.Keys(c.opts.users)) {
		entry += fmt.Sprintf(` user_%s="%s"`, name, c.opts.users[name])
	}
	return entry + ";"
}

// log4jConfig shows warnings, with the first lines of their exceptions.
const log4jConfig = `status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n%ex{2}
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
`

func (c *Cluster) log4jPath() string { return filepath.Join(c.dir, "log4j2.properties") }

// logging returns the JVM flags that make the release write its warnings to its standard output or
// error.
func (c *Cluster) logging() []string {
	if !c.version.log4j2() {
		return []string{"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}
	}
	return []string{"-Dlog4j2.configurationFile=" + c.log4jPath()}
}

func writeProperties(path string, conf map[string]string) error {
	var sb strings.Builder
	for _, k := range slices.Sorted(maps.Keys(conf)) {
		fmt.Fprintf(&sb, "%s=%s\n", k, strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(conf[k]))
	}
	if err := os.WriteFile(path, []byte(sb.String()), 0o600); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	return nil
}
