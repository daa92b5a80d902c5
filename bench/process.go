package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"klink/internal/kafkatest"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Process is a subject that runs as a child of this process, and dies with it. Its output goes to a
// file.
type Process struct {
	*kafkatest.Process
	name    string
	logPath string
	log     *os.File
}

// StartProcess starts a program. Its output goes to name.log in dir, which must exist.
func StartProcess(dir, name string, env []string, program string, args ...string) (*Process, error) {
	p := &Process{name: name, logPath: filepath.Join(dir, name+".log")}
	var err error
	if p.log, err = os.OpenFile(p.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	if p.Process, err = kafkatest.StartProcess(cmd); err != nil {
		p.log.Close()
		return nil, err
	}
	return p, nil
}

// StartSelf starts this binary with other arguments.
func StartSelf(dir, name string, args ...string) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return StartProcess(dir, name, nil, self, args...)
}

// Stop ends the process: SIGTERM, and SIGKILL after ten seconds.
func (p *Process) Stop() {
	_, _ = p.Terminate(10 * time.Second)
	p.log.Close()
}

// Usage is what a process has used so far.
type Usage struct {
	CPU  time.Duration // user and system, of all threads
	RSS  int64         // bytes now
	Peak int64         // the highest RSS so far
}

// Usage asks the operating system. It returns an error if the process has ended.
func (p *Process) Usage() (u Usage, err error) {
	proc, err := procfs.NewProc(p.PID())
	if err != nil {
		return u, p.ended(err)
	}
	stat, err := proc.Stat()
	if err != nil {
		return u, p.ended(err)
	}
	status, err := proc.NewStatus()
	if err != nil {
		return u, p.ended(err)
	}
	if stat.State == "Z" {
		return u, p.ended(errors.New("it has ended"))
	}
	cpu := time.Duration(stat.CPUTime() * float64(time.Second)) // in steps of 10 ms
	var precise unix.Timespec
	if unix.ClockGettime(cpuClock(p.PID()), &precise) == nil {
		cpu = time.Duration(precise.Nano())
	}
	return Usage{CPU: cpu, RSS: int64(status.VmRSS), Peak: int64(status.VmHWM)}, nil
}

// cpuClock returns the clock of a process's CPU time as clock_getcpuclockid(3) makes it: the
// complement of the process id, and 2 for the scheduler's count.
func cpuClock(pid int) int32 { return int32(^pid)<<3 | 2 }

// ended returns err with the end of the log.
func (p *Process) ended(err error) error {
	return fmt.Errorf("%s: %w\n%s", p.name, err, p.LogTail(20))
}

// LogTail returns the last lines that the process has printed.
func (p *Process) LogTail(lines int) string {
	text, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// AwaitLog waits until the process has printed text, or has ended.
func (p *Process) AwaitLog(text string, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		out, err := os.ReadFile(p.logPath)
		if err == nil && strings.Contains(string(out), text) {
			return nil
		}
		select {
		case <-p.Done():
			return p.ended(errors.New("it has ended"))
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return p.ended(fmt.Errorf("it did not print %q within %v", text, timeout))
		}
	}
}
