//go:build !windows

package main

import (
	"context"
	"net"
	"os"
	"syscall"
)

func dialLocal(ctx context.Context, path string) (net.Conn, error) {
	var dialer net.Dialer
	return dialer.DialContext(ctx, "unix", path)
}

// listenLocal makes a socket that is nobody else's from its first moment on.
func listenLocal(path string) (net.Listener, error) {
	return claim(path, func() (net.Listener, error) {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return nil, err
		}
		before := syscall.Umask(0o177)
		listener, err := net.Listen("unix", path)
		syscall.Umask(before)
		if err != nil {
			return nil, err
		}
		return listener, os.Chmod(path, 0o600)
	})
}
