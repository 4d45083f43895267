//go:build !windows

package main

import (
	"os"
	"syscall"
)

// exchange returns only where it failed.
func exchange(path string, args []string) (int, error) {
	return 0, syscall.Exec(path, append([]string{path}, args...), os.Environ())
}
