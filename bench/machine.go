package bench

import (
	"bytes"
	"os/exec"
	"regexp"
	"runtime"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Machine is where a series was measured, and with which versions.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory int64  `json:"memory_gib"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Java   string `json:"java"`
	Kafka  string `json:"kafka"`
	Klink  string `json:"klink"`
	// Load is the load average of the minute before. If it is above half of the cores, the machine
	// was busy and the figures show it.
	Load float64 `json:"load"`
}

// ThisMachine describes this machine. It leaves empty what it cannot find out.
func ThisMachine(kafka, klink string) Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Kafka: kafka, Klink: klink}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	if fs, err := procfs.NewDefaultFS(); err == nil {
		if cpus, err := fs.CPUInfo(); err == nil && len(cpus) > 0 {
			m.CPU = cpus[0].ModelName
		}
		if mem, err := fs.Meminfo(); err == nil && mem.MemTotal != nil {
			m.Memory = int64((*mem.MemTotal + 1<<19) >> 20)
		}
		if load, err := fs.LoadAvg(); err == nil {
			m.Load = load.Load1
		}
	}
	if out, err := exec.Command("java", "-version").CombinedOutput(); err == nil {
		if v := regexp.MustCompile(`version "([^"]+)"`).FindSubmatch(bytes.TrimSpace(out)); v != nil {
			m.Java = string(v[1])
		}
	}
	return m
}
