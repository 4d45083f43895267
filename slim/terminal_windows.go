package main

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/windows"
)

const sizeLook = 500 * time.Millisecond

var (
	cookedIn  uint32
	isRaw     bool
	consoleMu sync.Mutex
)

func input() windows.Handle  { return windows.Handle(os.Stdin.Fd()) }
func output() windows.Handle { return windows.Handle(os.Stdout.Fd()) }

func isTerminal() bool {
	var mode uint32
	if windows.GetConsoleMode(input(), &mode) != nil || windows.GetConsoleMode(output(), &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(output(), mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}

func terminalSize() (width, height int) {
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(output(), &info) != nil {
		return 0, 0
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1
}

func rawTerminal() {
	consoleMu.Lock()
	defer consoleMu.Unlock()
	var mode uint32
	if isRaw || windows.GetConsoleMode(input(), &mode) != nil {
		return
	}
	cookedIn, isRaw = mode, true
	mode &^= windows.ENABLE_LINE_INPUT | windows.ENABLE_ECHO_INPUT | windows.ENABLE_PROCESSED_INPUT
	_ = windows.SetConsoleMode(input(), mode|windows.ENABLE_VIRTUAL_TERMINAL_INPUT)
}

func restoreTerminal() {
	consoleMu.Lock()
	defer consoleMu.Unlock()
	if isRaw {
		isRaw = false
		_ = windows.SetConsoleMode(input(), cookedIn)
	}
}

// watchSize looks again and again: consoles send no signal.
func watchSize(changed func()) {
	go func() {
		width, height := terminalSize()
		for {
			time.Sleep(sizeLook)
			if w, h := terminalSize(); w != width || h != height {
				width, height = w, h
				changed()
			}
		}
	}()
}

// Windows has no job control.
func watchJobControl(_, _ func()) {}
func stopGroup()                  {}
