package main

import (
	"context"
	"errors"
	"os/exec"
	"time"

	"github.com/dop251/goja"
)

const (
	runOutputBytesMax = 1024 * 1024
	// How long pipes may stay open after the program that was run has gone.
	pipeTime = 500 * time.Millisecond
)

// bounded keeps the beginning of what is written to it.
type bounded struct{ kept []byte }

func (b *bounded) Write(data []byte) (int, error) {
	room := runOutputBytesMax - len(b.kept)
	b.kept = append(b.kept, data[:min(room, len(data))]...)
	return len(data), nil
}

// runProgram runs a program without a shell: (command, args, timeoutMs) → RunResult.
func (l *loop) runProgram(call goja.FunctionCall) goja.Value {
	name, args := call.Argument(0).String(), l.list(call.Argument(1))
	timeout := time.Duration(call.Argument(2).ToFloat() * float64(time.Millisecond))
	return l.promise(func() (func() any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		var output bounded
		command := exec.CommandContext(ctx, name, args...)
		command.Stdout = &output
		command.WaitDelay = pipeTime
		hideWindow(command)
		err := command.Run()
		late := ctx.Err() != nil
		return func() any { return l.runResult(late, command, err, string(output.kept)) }, nil
	})
}

func (l *loop) runResult(late bool, command *exec.Cmd, err error, output string) goja.Value {
	result := l.vm.NewObject()
	var exit *exec.ExitError
	switch {
	case late:
		_ = result.Set("type", "timeout")
	case err == nil, errors.As(err, &exit) && exit.ExitCode() >= 0, errors.Is(err, exec.ErrWaitDelay):
		_ = result.Set("type", "ran")
		_ = result.Set("exitCode", command.ProcessState.ExitCode())
		_ = result.Set("stdout", output)
	default:
		_ = result.Set("type", "absent")
	}
	return result
}
