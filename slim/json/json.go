// Package json reads JSON token by token, as much of it as the script engine's JSON.parse needs of encoding/json, whose reflection
// and reach would weigh half a megabyte. It is also bounded in depth: the engine descends into what it reads.
package json

import (
	"errors"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Deeper than anything that the agent takes (it refuses at 512 levels), and shallow enough for any stack.
const depthMax = 4096

// A Delim is one of [ ] { }.
type Delim rune

// A Token is a Delim, bool, float64, string or nil.
type Token any

// A Marshaler is what the engine asks Go values for; none of ours is one.
type Marshaler interface{ MarshalJSON() ([]byte, error) }

var errSyntax = errors.New("this is no JSON")

type state byte

const (
	beforeValue  state = iota // of the whole, behind a colon, behind a comma in an array
	beforeItem                // a value or ]
	beforeKey                 // a key or }
	nextKey                   // a key, behind a comma
	beforeColon               // behind a key
	behindItem                // , or ]
	behindMember              // , or }
	atEnd
)

// A Decoder gives the tokens of one value, and io.EOF behind it.
type Decoder struct {
	text  []byte
	at    int
	state state
	open  []byte // { and [ that are open
	err   error
}

// NewDecoder reads all there is.
func NewDecoder(reader io.Reader) *Decoder {
	text, err := io.ReadAll(reader)
	return &Decoder{text: text, err: err}
}

// Valid is whether the text is one JSON value.
func Valid(text []byte) bool {
	decoder := &Decoder{text: text}
	for {
		if _, err := decoder.Token(); err != nil {
			return err == io.EOF && decoder.state == atEnd
		}
	}
}

// Token is the next one; commas and colons are passed over where they belong.
func (d *Decoder) Token() (Token, error) {
	if d.err != nil {
		return nil, d.err
	}
	token, err := d.next()
	d.err = err
	return token, err
}

func (d *Decoder) next() (Token, error) {
	for {
		for d.at < len(d.text) && isSpace(d.text[d.at]) {
			d.at++
		}
		if d.at == len(d.text) {
			return nil, io.EOF
		}
		char := d.text[d.at]
		switch d.state {
		case atEnd:
			return nil, errSyntax
		case beforeColon:
			if char != ':' {
				return nil, errSyntax
			}
			d.state = beforeValue
			d.at++
			continue
		case behindItem, behindMember:
			if char == ',' {
				d.at++
				if d.state == behindItem {
					d.state = beforeValue
				} else {
					d.state = nextKey
				}
				continue
			}
			return d.close(char)
		case beforeKey, nextKey:
			if char == '}' && d.state == beforeKey {
				return d.close(char)
			}
			if char != '"' {
				return nil, errSyntax
			}
			d.state = beforeColon
			return d.string()
		case beforeItem:
			if char == ']' {
				return d.close(char)
			}
		}
		return d.value(char)
	}
}

func isSpace(char byte) bool {
	return char == ' ' || char == '\n' || char == '\t' || char == '\r'
}

func (d *Decoder) value(char byte) (Token, error) {
	switch char {
	case '{', '[':
		if len(d.open) == depthMax {
			return nil, errors.New("this is nested too deep")
		}
		d.open = append(d.open, char)
		d.state = beforeItem
		if char == '{' {
			d.state = beforeKey
		}
		d.at++
		return Delim(char), nil
	case '"':
		d.behindValue()
		return d.string()
	case 't':
		return d.word("true", true)
	case 'f':
		return d.word("false", false)
	case 'n':
		return d.word("null", nil)
	}
	return d.number()
}

func (d *Decoder) behindValue() {
	switch {
	case len(d.open) == 0:
		d.state = atEnd
	case d.open[len(d.open)-1] == '[':
		d.state = behindItem
	default:
		d.state = behindMember
	}
}

func (d *Decoder) close(char byte) (Token, error) {
	last := len(d.open) - 1
	if (char != ']' || d.open[last] != '[') && (char != '}' || d.open[last] != '{') {
		return nil, errSyntax
	}
	d.open = d.open[:last]
	d.at++
	d.behindValue()
	return Delim(char), nil
}

func (d *Decoder) word(word string, value any) (Token, error) {
	end := d.at + len(word)
	if end > len(d.text) || string(d.text[d.at:end]) != word {
		return nil, errSyntax
	}
	d.at = end
	d.behindValue()
	return value, nil
}

// number follows RFC 8259: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (d *Decoder) number() (Token, error) {
	start := d.at
	d.skip('-')
	if !d.skip('0') && !d.digits() {
		return nil, errSyntax
	}
	if d.skip('.') && !d.digits() {
		return nil, errSyntax
	}
	if d.skip('e') || d.skip('E') {
		if !d.skip('+') {
			d.skip('-')
		}
		if !d.digits() {
			return nil, errSyntax
		}
	}
	// Too large a number is infinite, as in scripts.
	value, err := strconv.ParseFloat(string(d.text[start:d.at]), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil, errSyntax
	}
	d.behindValue()
	return value, nil
}

func (d *Decoder) skip(char byte) bool {
	if d.at == len(d.text) || d.text[d.at] != char {
		return false
	}
	d.at++
	return true
}

func (d *Decoder) digits() bool {
	start := d.at
	for d.at < len(d.text) && d.text[d.at] >= '0' && d.text[d.at] <= '9' {
		d.at++
	}
	return d.at > start
}

// string reads from one quotation mark to the next.
func (d *Decoder) string() (Token, error) {
	d.at++
	start := d.at
	plain := true
	for d.at < len(d.text) {
		switch char := d.text[d.at]; {
		case char == '"':
			raw := d.text[start:d.at]
			d.at++
			if plain {
				return string(raw), nil
			}
			return unescape(raw)
		case char == '\\':
			plain = false
			d.at += 2
		case char < ' ':
			return nil, errSyntax
		default:
			d.at++
		}
	}
	return nil, io.ErrUnexpectedEOF
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func unescape(raw []byte) (Token, error) {
	text := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); {
		char := raw[i]
		if char != '\\' {
			text = append(text, char)
			i++
			continue
		}
		if raw[i+1] != 'u' {
			plain := escapes[raw[i+1]]
			if plain == 0 {
				return nil, errSyntax
			}
			text = append(text, plain)
			i += 2
			continue
		}
		unit, ok := hexUnit(raw[i:])
		if !ok {
			return nil, errSyntax
		}
		i += 6
		if utf16.IsSurrogate(unit) {
			low, _ := hexUnit(raw[i:])
			if whole := utf16.DecodeRune(unit, low); whole != utf8.RuneError {
				unit = whole
				i += 6
			}
		}
		text = utf8.AppendRune(text, unit) // half a character becomes the replacement character
	}
	return string(text), nil
}

// hexUnit reads \uXXXX.
func hexUnit(raw []byte) (rune, bool) {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	var unit rune
	for _, char := range raw[2:6] {
		unit <<= 4
		switch {
		case char >= '0' && char <= '9':
			unit |= rune(char - '0')
		case char >= 'a' && char <= 'f':
			unit |= rune(char - 'a' + 10)
		case char >= 'A' && char <= 'F':
			unit |= rune(char - 'A' + 10)
		default:
			return 0, false
		}
	}
	return unit, true
}
