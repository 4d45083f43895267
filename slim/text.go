package main

import (
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
)

func (l *loop) encodeUtf8(call goja.FunctionCall) goja.Value {
	return l.vm.ToValue(l.vm.NewArrayBuffer([]byte(call.Argument(0).String())))
}

// encodeUtf8Into writes whole characters as long as they fit: {read, written}.
func (l *loop) encodeUtf8Into(call goja.FunctionCall) goja.Value {
	text := call.Argument(0).ToString().(goja.String)
	encoded := text.String()
	target := l.bytes(call.Argument(1))
	read, written := text.Length(), len(encoded)
	if written > len(target) {
		read, written = 0, 0
		for _, char := range encoded {
			size := utf8.RuneLen(char)
			if written+size > len(target) {
				break
			}
			written += size
			read++
			if char > 0xffff {
				read++
			}
		}
	}
	copy(target, encoded[:written])
	result := l.vm.NewObject()
	_ = result.Set("read", read)
	_ = result.Set("written", written)
	return result
}

// utf8Decoder makes a function (bytes, stream) that keeps the beginning of a character for the next piece.
func (l *loop) utf8Decoder(goja.FunctionCall) goja.Value {
	var rest []byte
	started := false
	return l.vm.ToValue(func(call goja.FunctionCall) goja.Value {
		var bytes []byte
		if given := call.Argument(0); !goja.IsUndefined(given) {
			bytes = l.bytes(given)
		}
		stream := call.Argument(1).ToBoolean()
		if len(rest) > 0 {
			bytes = append(rest, bytes...)
			rest = nil
		}
		if stream {
			whole := len(bytes) - cutCharacter(bytes)
			rest = append([]byte(nil), bytes[whole:]...)
			bytes = bytes[:whole]
		}
		text := decodeUtf8(bytes)
		if !started && len(bytes) > 0 {
			text = strings.TrimPrefix(text, "\ufeff")
			started = true
		}
		if !stream {
			started = false
		}
		return l.vm.ToValue(text)
	})
}

// cutCharacter is how many bytes at the end begin a character that is not whole yet.
func cutCharacter(bytes []byte) int {
	for back := 1; back <= 3 && back <= len(bytes); back++ {
		tail := bytes[len(bytes)-back:]
		if !utf8.RuneStart(tail[0]) {
			continue
		}
		if tail[0] >= 0xc2 && !utf8.FullRune(tail) {
			return back
		}
		return 0
	}
	return 0
}

// decodeUtf8 puts one replacement character for each longest beginning of a character, as the Encoding standard says.
func decodeUtf8(bytes []byte) string {
	if utf8.Valid(bytes) {
		return string(bytes)
	}
	var text strings.Builder
	text.Grow(len(bytes) + 8)
	for len(bytes) > 0 {
		char, size := utf8.DecodeRune(bytes)
		if char == utf8.RuneError && size == 1 {
			size = brokenLength(bytes)
		}
		text.WriteRune(char)
		bytes = bytes[size:]
	}
	return text.String()
}

// brokenLength is the length of what could have begun a character; at least 1.
func brokenLength(bytes []byte) int {
	length := 1
	for length < len(bytes) && length < utf8.UTFMax && !utf8.RuneStart(bytes[length]) {
		if utf8.FullRune(bytes[:length+1]) {
			break // with this byte it is broken, not unfinished
		}
		length++
	}
	if utf8.FullRune(bytes[:length]) {
		return 1
	}
	return length
}

// toBase64 is btoa: a character for each byte.
func (l *loop) toBase64(call goja.FunctionCall) goja.Value {
	text := call.Argument(0).String()
	bytes := make([]byte, 0, len(text))
	for _, char := range text {
		if char > 0xff {
			panic(l.vm.NewTypeError("btoa takes characters up to 0xff"))
		}
		bytes = append(bytes, byte(char))
	}
	return l.vm.ToValue(base64.StdEncoding.EncodeToString(bytes))
}

// fromBase64 is atob: padding may be missing, white space is passed over.
func (l *loop) fromBase64(call goja.FunctionCall) goja.Value {
	text := strings.Map(func(char rune) rune {
		if strings.ContainsRune(" \t\n\f\r", char) {
			return -1
		}
		return char
	}, call.Argument(0).String())
	if len(text)%4 == 0 {
		text = strings.TrimSuffix(strings.TrimSuffix(text, "="), "=")
	}
	bytes, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		panic(l.vm.NewTypeError("this is not base64"))
	}
	chars := make([]rune, len(bytes))
	for i, one := range bytes {
		chars[i] = rune(one)
	}
	return l.vm.ToValue(string(chars))
}

var defaultPorts = map[string]string{"http": "80", "ws": "80", "https": "443", "wss": "443"}

// parseUrl is null where the text is no absolute http, https, ws or wss address.
func (l *loop) parseUrl(call goja.FunctionCall) goja.Value {
	parsed, err := url.Parse(strings.TrimSpace(call.Argument(0).String()))
	if err != nil || parsed.Hostname() == "" {
		return goja.Null()
	}
	defaultPort, known := defaultPorts[parsed.Scheme]
	if !known {
		return goja.Null()
	}
	port := parsed.Port()
	if port != "" {
		number, err := strconv.Atoi(port)
		if err != nil || number > 65535 {
			return goja.Null()
		}
		port = strconv.Itoa(number)
	}
	if port == defaultPort {
		port = ""
	}
	host := strings.ToLower(parsed.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	path := parsed.EscapedPath()
	if path == "" {
		path = "/"
	}
	password, _ := parsed.User.Password()
	result := l.vm.NewObject()
	for name, value := range map[string]string{
		"protocol": parsed.Scheme + ":",
		"username": parsed.User.Username(),
		"password": password,
		"hostname": host,
		"port":     port,
		"pathname": path,
		"search":   prefixed("?", parsed.RawQuery),
		"hash":     prefixed("#", parsed.EscapedFragment()),
	} {
		_ = result.Set(name, value)
	}
	return result
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
