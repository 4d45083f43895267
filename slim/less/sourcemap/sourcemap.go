// Package sourcemap knows no source maps.
package sourcemap

import "errors"

type Consumer struct{}

func Parse(string, []byte) (*Consumer, error) { return nil, errors.New("no source maps here") }

func (*Consumer) Source(int, int) (source, name string, line, column int, ok bool) {
	return "", "", 0, 0, false
}
