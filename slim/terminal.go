package main

import (
	"os"

	"github.com/dop251/goja"
)

const (
	inputPiece = 4096
	columns    = 80 // of a terminal that does not say
	rows       = 24
)

// terminal is that of standard input and output. Null where either is something else: as packages/agent/src/node-terminal.ts.
func (l *loop) terminal(goja.FunctionCall) goja.Value {
	if !isTerminal() || os.Getenv("TERM") == "dumb" {
		return goja.Null()
	}
	var onInput goja.Callable
	reading := false
	object := l.vm.NewObject()
	_ = object.Set("size", func(goja.FunctionCall) goja.Value {
		width, height := terminalSize()
		if width <= 0 || height <= 0 {
			width, height = columns, rows
		}
		return l.vm.NewArray(width, height)
	})
	// Without a callback the terminal is as it was.
	_ = object.Set("onInput", func(call goja.FunctionCall) goja.Value {
		if goja.IsUndefined(call.Argument(0)) {
			onInput = nil
			restoreTerminal()
			return goja.Undefined()
		}
		onInput = l.function(call.Argument(0))
		rawTerminal()
		if !reading {
			reading = true
			go l.readInput(func(text string) {
				if onInput != nil {
					l.call(onInput, l.vm.ToValue(text))
				}
			})
		}
		return goja.Undefined()
	})
	_ = object.Set("raw", func(call goja.FunctionCall) goja.Value {
		if call.Argument(0).ToBoolean() {
			rawTerminal()
		} else {
			restoreTerminal()
		}
		return goja.Undefined()
	})
	_ = object.Set("onResize", func(call goja.FunctionCall) goja.Value {
		callback := l.function(call.Argument(0))
		watchSize(func() { l.post(func() { l.call(callback) }) })
		return goja.Undefined()
	})
	// (suspended, continued): Ctrl-Z from outside the raw mode, and the way back.
	_ = object.Set("onJobControl", func(call goja.FunctionCall) goja.Value {
		suspended, continued := l.function(call.Argument(0)), l.function(call.Argument(1))
		watchJobControl(
			func() { l.post(func() { l.call(suspended) }) },
			func() { l.post(func() { l.call(continued) }) },
		)
		return goja.Undefined()
	})
	_ = object.Set("stop", func(goja.FunctionCall) goja.Value {
		stopGroup()
		return goja.Undefined()
	})
	return object
}

// readInput goes on for the life of the process: what nobody listens to is dropped.
func (l *loop) readInput(take func(text string)) {
	buffer := make([]byte, inputPiece)
	var rest []byte
	for {
		count, err := os.Stdin.Read(buffer)
		if count > 0 {
			bytes := append(rest, buffer[:count]...)
			whole := len(bytes) - cutCharacter(bytes)
			rest = append([]byte(nil), bytes[whole:]...)
			text := decodeUtf8(bytes[:whole])
			l.post(func() { take(text) })
		}
		if err != nil {
			return
		}
	}
}
