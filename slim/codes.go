package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os/exec"
	"syscall"
)

// codeOf is Node's name for what went wrong; "" where it has none that the agent asks for.
func codeOf(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		if dns.IsNotFound {
			return "ENOTFOUND"
		}
		return "EAI_AGAIN"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, exec.ErrNotFound):
		return "ENOENT"
	case errors.Is(err, fs.ErrExist):
		return "EEXIST"
	case errors.Is(err, fs.ErrPermission):
		return "EACCES"
	case errors.Is(err, context.DeadlineExceeded):
		return "ETIMEDOUT"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "ECONNRESET"
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return errnoNames[number]
	}
	return ""
}
