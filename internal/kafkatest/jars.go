package kafkatest

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

// Version is a release of Apache Kafka that this package can run.
type Version string

// The releases whose jars the poms of this directory name.
const (
	V431 Version = "4.3.1" // KRaft
	V391 Version = "3.9.1" // KRaft
	V282 Version = "2.8.2" // ZooKeeper
	V241 Version = "2.4.1" // ZooKeeper
)

//go:embed kafka-4.3.1/pom.xml
var pom431 []byte

//go:embed kafka-3.9.1/pom.xml
var pom391 []byte

//go:embed kafka-2.8.2/pom.xml
var pom282 []byte

//go:embed kafka-2.4.1/pom.xml
var pom241 []byte

func (v Version) pom() []byte {
	switch v {
	case V241:
		return pom241
	case V282:
		return pom282
	case V391:
		return pom391
	}
	return pom431
}

// old reports whether the release runs with ZooKeeper.
func (v Version) old() bool { return v == V241 || v == V282 }

// log4j2 reports whether the release logs with Log4j 2. Older ones log with slf4j-simple here.
func (v Version) log4j2() bool { return v == V431 }

// Provision makes sure that the jars of a release are on this machine and returns their directory.
//
// Maven fetches them once per pom into the cache directory. Any number of processes may call
// Provision at the same time: one fetches, under a file lock, and the others wait. The jars appear
// by a rename, so a directory that exists is complete. An error says in one line what is missing.
// Beside the jars Provision makes files that let Kafka's programs start faster, see archive.go and
// format.go.
func Provision(v Version) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(v.pom())
	dir := filepath.Join(cache, fmt.Sprintf("kafka-%s-%s", v, hex.EncodeToString(sum[:6])))
	if provisioned(v, dir) {
		return dir, nil
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if !isDir(dir) {
		if err := fetchJars(v, dir); err != nil {
			return "", err
		}
	}
	if !v.old() && !isFile(filepath.Join(dir, bootstrapCheckpoint)) {
		if err := formatOnce(dir); err != nil {
			return "", err
		}
	}
	if v == V431 && !isFile(filepath.Join(dir, archivesMade)) {
		if err := makeArchives(dir); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// provisioned reports whether nothing is left to do.
func provisioned(v Version, dir string) bool {
	switch {
	case !isDir(dir):
		return false
	case v.old():
		return true
	}
	return isFile(filepath.Join(dir, bootstrapCheckpoint)) && (v != V431 || isFile(filepath.Join(dir, archivesMade)))
}

func fetchJars(v Version, dir string) error {
	mvn, err := exec.LookPath("mvn")
	if err != nil {
		return errors.New("the tests on real Kafka need Maven (mvn) to fetch Apache Kafka: install it, e.g. apt-get install maven")
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "fetch-*")
	if err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	defer os.RemoveAll(tmp)
	pom := filepath.Join(tmp, "pom.xml")
	if err := os.WriteFile(pom, v.pom(), 0o644); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	lib := filepath.Join(tmp, "lib")
	cmd := exec.Command(mvn, "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+lib)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafkatest: Maven could not fetch Apache Kafka %s: %w\n%s", v, err, tail(out, 20))
	}
	jars, err := filepath.Glob(filepath.Join(lib, "*.jar"))
	if err != nil || len(jars) == 0 {
		return fmt.Errorf("kafkatest: Maven fetched no jar for Apache Kafka %s", v)
	}
	if err := os.Rename(lib, dir); err != nil {
		return fmt.Errorf("kafkatest: %w", err)
	}
	return nil
}

// cacheDir returns the directory where jars are kept between runs, and creates it.
func cacheDir() (string, error) {
	dir := os.Getenv("KLINK_KAFKA_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("kafkatest: no cache directory for the jars of Kafka, set KLINK_KAFKA_CACHE: %w", err)
		}
		dir = filepath.Join(base, "klink", "kafka")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("kafkatest: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("kafkatest: %w", err)
	}
	return dir, nil
}

// lockFile takes an exclusive lock, which unlock or the end of the process releases.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("kafkatest: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("kafkatest: lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// CheckJava returns an error of one line unless a Java of at least 17 can be run.
func CheckJava() error {
	out, err := exec.Command("java", "-version").CombinedOutput()
	if err != nil {
		return errors.New("the tests on real Kafka need Java 17 or later (java): install it, e.g. apt-get install openjdk-17-jre-headless")
	}
	m := javaVersion.FindSubmatch(out)
	if m == nil {
		return nil // an unusual vendor string; let Kafka itself decide
	}
	if major, err := strconv.Atoi(string(m[1])); err == nil && major < 17 {
		return fmt.Errorf("the tests on real Kafka need Java 17 or later, found %d", major)
	}
	return nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
