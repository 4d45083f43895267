package main

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"github.com/dop251/goja"
)

// executable is the path of this program's own file, which updates replace.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// replaceProgram puts a copy of a file in a program's place, in one step: (path, file, previous) → Promise.
func (l *loop) replaceProgram(call goja.FunctionCall) goja.Value {
	path, file, previous := call.Argument(0).String(), call.Argument(1).String(), call.Argument(2).String()
	return l.promise(func() (func() any, error) { return nil, replaceFile(path, file, previous) })
}

// replaceFile keeps what lay at path at previous. The copy is made beside it: a rename works within one file system only.
func replaceFile(path, file, previous string) (err error) {
	random := make([]byte, 6)
	if _, err := rand.Read(random); err != nil {
		return err
	}
	beside := path + "." + hex.EncodeToString(random) + ".new"
	defer func() {
		if err != nil {
			_ = os.Remove(beside)
		}
	}()
	if err := copySynced(file, beside); err != nil {
		return err
	}
	if err := os.Remove(previous); err != nil && !os.IsNotExist(err) {
		return err
	}
	if isWindows() {
		// A program that runs can be renamed, and not overwritten.
		if err := os.Rename(path, previous); err != nil {
			return err
		}
	} else if err := os.Link(path, previous); err != nil {
		if err := copySynced(path, previous); err != nil {
			return err
		}
	}
	return os.Rename(beside, path)
}

// copySynced is on the disk when it returns: a power cut must not leave an empty program.
func copySynced(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err = io.Copy(target, source); err == nil {
		err = target.Sync()
	}
	if closed := target.Close(); err == nil {
		err = closed
	}
	return err
}

// become goes on as the program that lies at a path now: (path, args) → Promise of its exit status, where the system can't
// exchange a process.
func (l *loop) become(call goja.FunctionCall) goja.Value {
	path, args := call.Argument(0).String(), l.list(call.Argument(1))
	restoreTerminal()
	return l.promise(func() (func() any, error) {
		status, err := exchange(path, args)
		return func() any { return status }, err
	})
}
