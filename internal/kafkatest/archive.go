package kafkatest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Class data archives (JDK's AppCDS) hold the parsed classes of a program. With one a broker needs
// about two thirds of the CPU time to start, a tool less than half. Provision makes them once,
// beside the jars, from the class loads of one broker and one tool. A JVM ignores archives that
// another JVM made, so they change nothing but time.
const (
	brokerArchive = "broker.jsa"
	toolArchive   = "tools.jsa"
	// archivesMade marks that Provision has tried to make the archives. If that failed, everything
	// runs without them.
	archivesMade = "archives"
)

// fastJVM makes a JVM start fast and stay small, at the price of its top speed. It turns off the
// JVM's own warnings, which would get into the output of the tools.
var fastJVM = []string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-Xshare:auto", "-Xlog:disable"}

// archive returns the JVM flags that use an archive if there is one.
func archive(lib, name string) []string {
	path := filepath.Join(lib, name)
	if !isFile(path) {
		return nil
	}
	return []string{"-XX:SharedArchiveFile=" + path}
}

// makeArchives makes the archives. It returns no error if that fails, only if it cannot write the
// mark that it has tried.
func makeArchives(lib string) error {
	result := "made"
	if err := train(lib); err != nil {
		result = err.Error()
	}
	return writeAtomically(filepath.Join(lib, archivesMade), []byte(result+"\n"))
}

func train(lib string) error {
	broker, tools := filepath.Join(lib, brokerArchive), filepath.Join(lib, toolArchive)
	c, err := startFrom(lib, V431, JVM(slices.Concat(fastJVM, []string{"-XX:ArchiveClassesAtExit=" + broker + ".tmp"})...), training)
	if err != nil {
		return err
	}
	defer c.stop()
	cmd, err := toolCommand(lib, c.dir, []string{"-XX:ArchiveClassesAtExit=" + tools + ".tmp"}, ConsoleConsumer,
		[]string{"--bootstrap-server", c.Bootstrap(), "--topic", "none", "--timeout-ms", "2000"})
	if err != nil {
		return err
	}
	tool, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-tool.Done(): // the tool fails, as there is no such topic, but it has loaded its classes
	case <-time.After(toolTimeout):
		tool.Kill()
	}
	if _, err := c.brokers[0].proc.Terminate(toolTimeout); err != nil { // writes the archive as it ends
		return err
	}
	return errors.Join(publish(broker), publish(tools))
}

func publish(path string) error {
	if err := os.Rename(path+".tmp", path); err != nil {
		return fmt.Errorf("kafkatest: archive: %w", err)
	}
	return nil
}

func training(o *options) { o.training = true }
