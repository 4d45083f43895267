package main

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"

	"github.com/dop251/goja"
)

const (
	// What a shell answers for a program that it does not find.
	exitNotFound = 127
	outputPiece  = 32 * 1024
)

// spawn starts a program that goes on: (command, args, env, directory) → Child. The environment is exactly what is given.
func (l *loop) spawn(call goja.FunctionCall) goja.Value {
	command := exec.Command(call.Argument(0).String(), l.list(call.Argument(1))...)
	command.Env = []string{}
	for name, value := range l.strings(call.Argument(2)) {
		command.Env = append(command.Env, name+"="+value)
	}
	command.Dir, _ = optionalText(call.Argument(3))
	ownGroup(command)

	child := l.vm.NewObject()
	input, output, problems, err := startPiped(command)
	if err != nil {
		command.Process = nil
	}
	var pid any = goja.Null()
	if command.Process != nil {
		pid = command.Process.Pid
	}
	group := groupOf(command)
	_ = child.Set("pid", pid)
	_ = child.Set("readOutput", l.reader(output))
	_ = child.Set("readError", l.reader(problems))
	_ = child.Set("write", func(call goja.FunctionCall) goja.Value {
		data := l.bytes(call.Argument(0))
		return l.promise(func() (func() any, error) {
			if input == nil {
				return nil, io.ErrClosedPipe
			}
			_, err := input.Write(data)
			return nil, err
		})
	})
	_ = child.Set("closeInput", func(goja.FunctionCall) goja.Value {
		if input != nil {
			_ = input.Close()
		}
		return goja.Undefined()
	})
	_ = child.Set("kill", func(call goja.FunctionCall) goja.Value {
		group.kill(call.Argument(0).String() == "SIGKILL")
		return goja.Undefined()
	})
	_ = child.Set("ended", l.promise(func() (func() any, error) {
		if err != nil {
			if codeOf(err) != "ENOENT" {
				return nil, err
			}
			return func() any { return l.ending(exitNotFound, "") }, nil
		}
		waited := command.Wait()
		group.ended()
		var exit *exec.ExitError
		if waited != nil && !errors.As(waited, &exit) {
			return nil, waited
		}
		code, signal := endOf(command.ProcessState)
		return func() any { return l.ending(code, signal) }, nil
	}))
	return child
}

func (l *loop) ending(code int, signal string) goja.Value {
	result := l.vm.NewObject()
	if signal == "" {
		_ = result.Set("exitCode", code)
		_ = result.Set("signal", goja.Null())
	} else {
		_ = result.Set("exitCode", goja.Null())
		_ = result.Set("signal", signal)
	}
	return result
}

// startPiped starts a program with pipes of our own: its end does not close what was not read yet.
func startPiped(command *exec.Cmd) (input, output, problems *os.File, err error) {
	var ends []*os.File
	pipe := func() (read, write *os.File) {
		if err == nil {
			read, write, err = os.Pipe()
			ends = append(ends, read, write)
		}
		return read, write
	}
	inRead, inWrite := pipe()
	outRead, outWrite := pipe()
	errRead, errWrite := pipe()
	if err == nil {
		command.Stdin, command.Stdout, command.Stderr = inRead, outWrite, errWrite
		err = command.Start()
	}
	if err != nil {
		for _, end := range ends {
			if end != nil {
				end.Close()
			}
		}
		return nil, nil, nil, err
	}
	inRead.Close()
	outWrite.Close()
	errWrite.Close()
	return inWrite, outRead, errRead, nil
}

// reader is a function that resolves with the next piece, null at the end.
func (l *loop) reader(file *os.File) func(goja.FunctionCall) goja.Value {
	var mu sync.Mutex
	return func(goja.FunctionCall) goja.Value {
		return l.promise(func() (func() any, error) {
			mu.Lock()
			defer mu.Unlock()
			if file == nil {
				return func() any { return goja.Null() }, nil
			}
			buffer := make([]byte, outputPiece)
			count, err := file.Read(buffer)
			if count > 0 {
				piece := append([]byte(nil), buffer[:count]...)
				return func() any { return l.vm.NewArrayBuffer(piece) }, nil
			}
			file.Close()
			if err != io.EOF && !errors.Is(err, os.ErrClosed) {
				return nil, err
			}
			return func() any { return goja.Null() }, nil
		})
	}
}
