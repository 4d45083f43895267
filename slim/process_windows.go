package main

import (
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/windows"
)

func hideWindow(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{HideWindow: true}
}

func ownGroup(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{
		HideWindow:    true,
		CreationFlags: windows.CREATE_NEW_PROCESS_GROUP,
	}
}

// group is a program and all that it started, by a job object.
type group struct {
	mu      sync.Mutex
	job     windows.Handle
	process *os.Process
}

func groupOf(command *exec.Cmd) *group {
	g := &group{process: command.Process}
	if command.Process == nil {
		return g
	}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return g
	}
	process, err := windows.OpenProcess(
		windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(command.Process.Pid))
	if err == nil {
		err = windows.AssignProcessToJobObject(job, process)
		_ = windows.CloseHandle(process)
	}
	if err != nil {
		_ = windows.CloseHandle(job)
		return g
	}
	g.job = job
	return g
}

// kill ends all of it: Windows knows no gentler way for programs without a window.
func (g *group) kill(bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.job != 0 {
		_ = windows.TerminateJobObject(g.job, 1)
	} else if g.process != nil {
		_ = g.process.Kill()
	}
}

func (g *group) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.process = nil
}

func endOf(state *os.ProcessState) (code int, signal string) {
	return state.ExitCode(), ""
}
