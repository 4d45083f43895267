package main

import (
	"context"
	"net"
	"os"

	"github.com/Microsoft/go-winio"
)

// A named pipe: \\.\pipe\…
func dialLocal(ctx context.Context, path string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, path)
}

// listenLocal makes a pipe that its user, and the system, may open.
func listenLocal(path string) (net.Listener, error) {
	listener, err := winio.ListenPipe(path, &winio.PipeConfig{
		SecurityDescriptor: "D:P(A;;GA;;;OW)(A;;GA;;;SY)",
	})
	if os.IsPermission(err) { // there is one of this name already
		return nil, errTaken
	}
	return listener, err
}
