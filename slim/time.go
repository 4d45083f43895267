package main

import (
	"context"
	"time"
)

// newTimeout is a context that ends by itself, and needs no cancelling.
func newTimeout(after time.Duration) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(after, cancel)
	return ctx
}
