//go:build !windows

package main

import "syscall"

// freeBytes is what this user may still write on the file system of path.
func freeBytes(path string) (uint64, error) {
	var facts syscall.Statfs_t
	if err := syscall.Statfs(path, &facts); err != nil {
		return 0, err
	}
	return facts.Bavail * uint64(facts.Bsize), nil
}
