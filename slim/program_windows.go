package main

import (
	"errors"
	"os"
	"os/exec"
)

// exchange runs the other as a child, which has this one's streams; a Ctrl-C reaches both.
func exchange(path string, args []string) (int, error) {
	command := exec.Command(path, args...)
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := command.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
