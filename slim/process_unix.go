//go:build !windows

package main

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
)

func hideWindow(*exec.Cmd) {}

func ownGroup(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// group is a program and all that it started.
type group struct {
	mu  sync.Mutex
	pid int
}

func groupOf(command *exec.Cmd) *group {
	if command.Process == nil {
		return &group{}
	}
	return &group{pid: command.Process.Pid}
}

func (g *group) kill(force bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid == 0 {
		return
	}
	signal := syscall.SIGTERM
	if force {
		signal = syscall.SIGKILL
	}
	_ = syscall.Kill(-g.pid, signal)
}

// ended: the number may be somebody else's from now on, unless others of the group live. They are not waited for.
func (g *group) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid != 0 && syscall.Kill(-g.pid, 0) != nil {
		g.pid = 0
	}
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGTERM: "SIGTERM", syscall.SIGKILL: "SIGKILL", syscall.SIGINT: "SIGINT", syscall.SIGHUP: "SIGHUP",
	syscall.SIGSEGV: "SIGSEGV", syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGILL: "SIGILL",
	syscall.SIGFPE: "SIGFPE", syscall.SIGPIPE: "SIGPIPE", syscall.SIGQUIT: "SIGQUIT", syscall.SIGTRAP: "SIGTRAP",
}

func endOf(state *os.ProcessState) (code int, signal string) {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		if name := signalNames[status.Signal()]; name != "" {
			return -1, name
		}
		return -1, status.Signal().String()
	}
	return state.ExitCode(), ""
}
