package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/dop251/goja"
)

const hashPiece = 1024 * 1024

func isWindows() bool { return runtime.GOOS == "windows" }

func (l *loop) readFile(call goja.FunctionCall) goja.Value {
	path := call.Argument(0).String()
	return l.promise(func() (func() any, error) {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return func() any { return goja.Null() }, nil
		}
		if err != nil {
			return nil, err
		}
		return func() any { return l.vm.NewArrayBuffer(data) }, nil
	})
}

// writeFile writes whole or not at all: a reader sees the old or the new. With exclusive an existing file stays: false.
func (l *loop) writeFile(call goja.FunctionCall) goja.Value {
	path, text := call.Argument(0).String(), call.Argument(1).String()
	mode, exclusive := fs.FileMode(call.Argument(2).ToInteger()), call.Argument(3).ToBoolean()
	return l.promise(func() (func() any, error) {
		written, err := writeWhole(path, text, mode, exclusive)
		return func() any { return written }, err
	})
}

func writeWhole(path, text string, mode fs.FileMode, exclusive bool) (bool, error) {
	var random [6]byte
	_, _ = rand.Read(random[:])
	sibling := path + "." + hex.EncodeToString(random[:]) + ".tmp"
	defer os.Remove(sibling)
	if err := writeNew(sibling, text, mode); err != nil {
		return false, err
	}
	if !exclusive {
		err := os.Rename(sibling, path)
		return err == nil, err
	}
	err := os.Link(sibling, path)
	if err == nil {
		return true, nil
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	// A file system without hard links.
	err = writeNew(path, text, mode)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, err
}

// writeNew makes a file that must not be there; nothing is left where it fails in the middle.
func writeNew(path, text string, mode fs.FileMode) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err == nil && !isWindows() {
		err = file.Chmod(mode) // whatever the umask took away or left
	}
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(path)
	}
	return err
}

func (l *loop) makeDirectory(call goja.FunctionCall) goja.Value {
	path, mode := call.Argument(0).String(), fs.FileMode(call.Argument(1).ToInteger())
	return l.promise(func() (func() any, error) { return nil, os.MkdirAll(path, mode) })
}

func (l *loop) setMode(call goja.FunctionCall) goja.Value {
	path, mode := call.Argument(0).String(), fs.FileMode(call.Argument(1).ToInteger())
	return l.promise(func() (func() any, error) { return nil, os.Chmod(path, mode) })
}

func (l *loop) facts(call goja.FunctionCall) goja.Value {
	path := call.Argument(0).String()
	return l.promise(func() (func() any, error) {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return func() any { return goja.Null() }, nil
		}
		if err != nil {
			return nil, err
		}
		return func() any {
			result := l.vm.NewObject()
			_ = result.Set("sizeBytes", info.Size())
			_ = result.Set("modifiedMs", float64(info.ModTime().UnixNano())/1e6)
			if isWindows() {
				_ = result.Set("mode", goja.Null())
			} else {
				_ = result.Set("mode", int(info.Mode().Perm()))
			}
			return result
		}, nil
	})
}

func (l *loop) sha256File(call goja.FunctionCall) goja.Value {
	path := call.Argument(0).String()
	return l.promise(func() (func() any, error) {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		sum := sha256.New()
		if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, file, make([]byte, hashPiece)); err != nil {
			return nil, err
		}
		text := hex.EncodeToString(sum.Sum(nil))
		return func() any { return text }, nil
	})
}

func (l *loop) join(call goja.FunctionCall) goja.Value {
	parts := make([]string, len(call.Arguments))
	for i, argument := range call.Arguments {
		parts[i] = argument.String()
	}
	return l.vm.ToValue(filepath.Join(parts...))
}
