//go:build !windows

package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	cooked   *unix.Termios
	cookedMu sync.Mutex
)

// isTerminal: a job in a shell's background is stopped when it reads from the terminal or changes its mode.
func isTerminal() bool {
	if _, err := unix.IoctlGetTermios(0, getTermios); err != nil {
		return false
	}
	if _, err := unix.IoctlGetTermios(1, getTermios); err != nil {
		return false
	}
	foreground, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	return err != nil || foreground == unix.Getpgrp()
}

func terminalSize() (width, height int) {
	size, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// rawTerminal gives every key as it is typed and echoes nothing; line ends on the way out stay as they are.
func rawTerminal() {
	cookedMu.Lock()
	defer cookedMu.Unlock()
	now, err := unix.IoctlGetTermios(0, getTermios)
	if err != nil {
		return
	}
	if cooked == nil {
		before := *now
		cooked = &before
	}
	now.Iflag &^= unix.BRKINT | unix.ICRNL | unix.INPCK | unix.ISTRIP | unix.IXON
	now.Oflag |= unix.ONLCR
	now.Cflag |= unix.CS8
	now.Lflag &^= unix.ECHO | unix.ICANON | unix.IEXTEN | unix.ISIG
	now.Cc[unix.VMIN] = 1
	now.Cc[unix.VTIME] = 0
	_ = unix.IoctlSetTermios(0, setTermios, now)
}

func restoreTerminal() {
	cookedMu.Lock()
	defer cookedMu.Unlock()
	if cooked != nil {
		_ = unix.IoctlSetTermios(0, setTermios, cooked)
		cooked = nil
	}
}

func watchSize(changed func()) {
	onSignal(syscall.SIGWINCH, changed)
}

func watchJobControl(suspended, continued func()) {
	onSignal(syscall.SIGTSTP, suspended)
	onSignal(syscall.SIGCONT, continued)
}

func onSignal(which os.Signal, act func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, which)
	go func() {
		for range signals {
			act()
		}
	}()
}

// stopGroup stops the whole group, so that the shell sees it.
func stopGroup() {
	signal.Reset(syscall.SIGTSTP)
	_ = syscall.Kill(0, syscall.SIGTSTP)
}
