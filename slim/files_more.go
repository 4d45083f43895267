package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/dop251/goja"
)

// append opens a file to write at its end: {write(bytes), close()}.
func (l *loop) append(call goja.FunctionCall) goja.Value {
	path, mode := call.Argument(0).String(), fs.FileMode(call.Argument(1).ToInteger())
	return l.promise(func() (func() any, error) {
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, mode)
		if err != nil {
			return nil, err
		}
		return func() any { return l.fileWriter(file) }, nil
	})
}

func (l *loop) fileWriter(file *os.File) goja.Value {
	writer := l.vm.NewObject()
	_ = writer.Set("write", func(call goja.FunctionCall) goja.Value {
		data := l.bytes(call.Argument(0))
		return l.promise(func() (func() any, error) {
			_, err := file.Write(data)
			return nil, err
		})
	})
	_ = writer.Set("close", func(goja.FunctionCall) goja.Value {
		return l.promise(func() (func() any, error) {
			err := file.Close()
			if errors.Is(err, fs.ErrClosed) {
				err = nil
			}
			return nil, err
		})
	})
	return writer
}

func (l *loop) rename(call goja.FunctionCall) goja.Value {
	from, to := call.Argument(0).String(), call.Argument(1).String()
	return l.promise(func() (func() any, error) { return nil, os.Rename(from, to) })
}

// remove takes a file, or a folder with all in it; absent is no error.
func (l *loop) remove(call goja.FunctionCall) goja.Value {
	path := call.Argument(0).String()
	return l.promise(func() (func() any, error) { return nil, os.RemoveAll(path) })
}

// list has the names in a folder, in order; none where there is no such folder.
func (l *loop) listDirectory(call goja.FunctionCall) goja.Value {
	path := call.Argument(0).String()
	return l.promise(func() (func() any, error) {
		entries, err := os.ReadDir(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		names := make([]any, len(entries))
		for i, entry := range entries {
			names[i] = entry.Name()
		}
		return func() any { return l.vm.NewArray(names...) }, nil
	})
}

func (l *loop) freeBytes(call goja.FunctionCall) goja.Value {
	path := call.Argument(0).String()
	return l.promise(func() (func() any, error) {
		free, err := freeBytes(path)
		return func() any { return float64(free) }, err
	})
}
