package kafkatest

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is a child that dies with the test binary.
//
// It leads a process group of its own, and the kernel kills it when the binary ends in any way
// (PR_SET_PDEATHSIG).
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// StartProcess starts cmd. It sets cmd.SysProcAttr; the caller sets the rest, above all the output
// files.
func StartProcess(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := startOnLastingThread(cmd); err != nil {
		return nil, fmt.Errorf("kafkatest: start %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// PID returns the process id, which is also the id of its group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended and its output is complete.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err waits for the end and returns the error of [exec.Cmd.Wait]: nil for exit code 0.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// ExitCode waits for the end and returns the exit code, -1 after a signal.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Kill ends the process and its group with SIGKILL and waits for the end.
func (p *Process) Kill() {
	p.Signal(syscall.SIGKILL)
	<-p.done
}

// Terminate sends SIGTERM, waits, and returns the exit code. If the process still runs after the
// grace period, Terminate kills it and returns an error.
func (p *Process) Terminate(grace time.Duration) (int, error) {
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		p.Kill()
		return -1, fmt.Errorf("process %d did not end within %v of SIGTERM", p.PID(), grace)
	}
}

// Signal sends sig to the process group. It does nothing once the process has ended.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.done:
	default:
		_ = syscall.Kill(-p.PID(), sig)
	}
}

// PDEATHSIG follows the thread that started the child, not the process. So one thread, which stays
// until the process ends, starts all children.
var spawner struct {
	once sync.Once
	jobs chan func()
}

func startOnLastingThread(cmd *exec.Cmd) error {
	spawner.once.Do(func() {
		spawner.jobs = make(chan func())
		go func() {
			runtime.LockOSThread()
			for job := range spawner.jobs {
				job()
			}
		}()
	})
	result := make(chan error)
	spawner.jobs <- func() { result <- cmd.Start() }
	return <-result
}

// alive reports whether a process with this id exists.
func alive(pid int) bool {
	return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// tail returns the last lines of out.
func tail(out []byte, lines int) []byte {
	out = bytes.TrimRight(out, "\n")
	start := len(out)
	for range lines {
		if start = bytes.LastIndexByte(out[:start], '\n'); start < 0 {
			return out
		}
	}
	return out[start+1:]
}

// TailFile returns the last lines of a file, or why it cannot be read.
func TailFile(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const window = 64 << 10
	info, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	buf := make([]byte, min(info.Size(), window))
	if _, err := f.ReadAt(buf, info.Size()-int64(len(buf))); err != nil {
		return err.Error()
	}
	return string(tail(buf, lines))
}
