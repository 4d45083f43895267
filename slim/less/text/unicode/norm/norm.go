// Package norm leaves text as it is.
package norm

type Form int

const (
	NFC Form = iota
	NFD
	NFKC
	NFKD
)

func (Form) String(text string) string { return text }
