package json

import (
	"encoding/json"
	"io"
	"reflect"
	"strings"
	"testing"
)

type decoder interface{ more() (any, error) }

type ours struct{ *Decoder }

func (o ours) more() (any, error) {
	token, err := o.Token()
	if delim, ok := token.(Delim); ok {
		return string(rune(delim)), err
	}
	return token, err
}

type theirs struct{ *json.Decoder }

func (t theirs) more() (any, error) {
	token, err := t.Token()
	if delim, ok := token.(json.Delim); ok {
		return delim.String(), err
	}
	return token, err
}

// all has the tokens up to the end, and whether it is the end of a whole value.
func all(d decoder) (tokens []any, whole bool) {
	for {
		token, err := d.more()
		if err != nil {
			return tokens, err == io.EOF
		}
		tokens = append(tokens, token)
	}
}

var samples = []string{
	`{}`, `[]`, ` [ 1 , -2.5e+3 , 0.1E-2, "a\"\\\/\b\f\n\r\té", true,false,null ] `,
	`{"a":{"b":[{},[]]},"":"","a":1}`, `"\ud83c\udf0d ü 世界"`, `"\ud800"`, `"\udc00\ud800"`, `12`, `-0`,
	`[`, `]`, `{`, `}`, `[1,]`, `[,1]`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `[1 2]`, `01`, `1.`, `.5`, `+1`, `1e`, `-`,
	`tru`, `nul`, `"`, `"\x"`, `"\u12"`, "\"a\nb\"", `1 2`, `[]]`, `{]`, `[}`, `{"a":1]`, ``, ` `, `{"a" 1}`, `{"a":1 "b":2}`,
	`"\`, `"\u`, `{"k":"v"`, `[[[[1]]]]`, "\ufeff1", `1,2`, `:`, `,`,
}

func TestSameAsTheStandardLibrary(t *testing.T) {
	for _, text := range samples {
		valid := json.Valid([]byte(text))
		if Valid([]byte(text)) != valid {
			t.Errorf("%q: valid is %v", text, !valid)
		}
		if !valid {
			continue
		}
		is, whole := all(ours{NewDecoder(strings.NewReader(text))})
		meant, _ := all(theirs{json.NewDecoder(strings.NewReader(text))})
		if !whole || !reflect.DeepEqual(is, meant) {
			t.Errorf("%q: %v instead of %v", text, is, meant)
		}
	}
}

func TestDepthIsBounded(t *testing.T) {
	if !Valid([]byte(strings.Repeat("[", depthMax) + strings.Repeat("]", depthMax))) {
		t.Error("the depth that is allowed is refused")
	}
	if Valid([]byte(strings.Repeat("[", depthMax+1) + strings.Repeat("]", depthMax+1))) {
		t.Error("no bound")
	}
}

func FuzzValid(f *testing.F) {
	for _, text := range samples {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if Valid([]byte(text)) != json.Valid([]byte(text)) && strings.Count(text, "[")+strings.Count(text, "{") < 1000 {
			t.Errorf("%q", text)
		}
	})
}
