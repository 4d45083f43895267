//go:build !linux

package main

// Other systems take pages back by themselves when they need them.
func forgetOwnPages() {}
