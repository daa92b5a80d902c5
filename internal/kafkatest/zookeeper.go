package kafkatest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// zookeeper is the ZooKeeper that a broker before KRaft needs.
type zookeeper struct {
	ports *portBlock
	proc  *Process
}

func (z *zookeeper) close() {
	if z == nil {
		return
	}
	if z.proc != nil {
		z.proc.Kill()
	}
	z.ports.release()
}

// prepareZooKeeper starts ZooKeeper from the broker's own jars and writes the broker's
// configuration. The broker waits for ZooKeeper by itself.
func (c *Cluster) prepareZooKeeper() error {
	ports, err := reservePorts(1)
	if err != nil {
		return err
	}
	c.zk = &zookeeper{ports: ports}
	data := filepath.Join(c.dir, "zookeeper")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	conf := filepath.Join(c.dir, "zookeeper.properties")
	err = writeProperties(conf, map[string]string{
		"dataDir":            data,
		"clientPort":         strconv.Itoa(ports.base),
		"clientPortAddress":  "127.0.0.1",
		"admin.enableServer": "false",
		"tickTime":           "500",
	})
	if err != nil {
		return err
	}
	args := append(slices.Clone(fastJVM), "-Xmx128m", "-Dzookeeper.jmx.log4j.disable=true")
	args = append(args, c.logging()...)
	args = append(args, "-cp", filepath.Join(c.lib, "*"), "org.apache.zookeeper.server.quorum.QuorumPeerMain", conf)
	if c.zk.proc, err = startLogged(filepath.Join(c.dir, "zookeeper.log"), args); err != nil {
		return err
	}
	for _, b := range c.brokers {
		conf := map[string]string{
			"broker.id":                    strconv.Itoa(b.id),
			"listeners":                    c.opts.protocol + "://" + b.addr,
			"advertised.listeners":         c.opts.protocol + "://" + b.Addr(),
			"zookeeper.connect":            fmt.Sprintf("127.0.0.1:%d", ports.base),
			"zookeeper.session.timeout.ms": "4000",
			"log.dirs":                     b.dir,
		}
		maps.Copy(conf, c.commonConfig())
		if c.opts.sasl() {
			maps.Copy(conf, c.oldSASLConfig())
		}
		maps.Copy(conf, c.opts.configs)
		if err := writeProperties(b.configPath(), conf); err != nil {
			return err
		}
	}
	return nil
}

// oldSASLConfig is saslConfig for a broker with one listener. The broker connects to itself as the
// super user.
func (c *Cluster) oldSASLConfig() map[string]string {
	jaas := fmt.Sprintf(`org.apache.kafka.common.security.plain.PlainLoginModule required username=%q password=%q`, SuperUser, SuperUserPassword)
	return map[string]string{
		"listener.name.sasl_plaintext.plain.sasl.jaas.config": jaas + c.plainUsers(),
		"sasl.enabled.mechanisms":                             "PLAIN",
		"sasl.mechanism.inter.broker.protocol":                "PLAIN",
		"security.inter.broker.protocol":                      c.opts.protocol,
		"authorizer.class.name":                               "kafka.security.authorizer.AclAuthorizer",
		"super.users":                                         "User:" + SuperUser,
	}
}
