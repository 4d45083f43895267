package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/dop251/goja"
)

// parts are the pieces of the bundled script: what it begins with, and those that an import() asks for. One that nobody asks for
// is never compiled: its code, in the engine's memory, takes ten times what it takes here.
type parts struct {
	vm       *goja.Runtime
	packed   map[string][]byte
	exports  map[string]*goja.Object
	required goja.Value
}

// firstParts are run in this order: globals before what uses them as it loads.
var firstParts = []string{"globals.js", "main.js"}

func newParts(vm *goja.Runtime) *parts {
	p := &parts{vm: vm, packed: map[string][]byte{}, exports: map[string]*goja.Object{}}
	p.required = vm.ToValue(func(call goja.FunctionCall) goja.Value {
		exports, err := p.require(strings.TrimPrefix(call.Argument(0).String(), "./"))
		if err != nil {
			panic(vm.NewGoError(err))
		}
		return exports
	})
	// As scripts/agents/bundle.ts packs them: a line "name length" for each, an empty line, the parts.
	head, body, _ := bytes.Cut(bundle, []byte("\n\n"))
	for _, line := range strings.Split(string(head), "\n") {
		name, length, _ := strings.Cut(line, " ")
		count, _ := strconv.Atoi(length)
		p.packed[name], body = body[:count], body[count:]
	}
	return p
}

func (p *parts) begin() error {
	for _, name := range firstParts {
		if _, err := p.require(name); err != nil {
			return err
		}
	}
	return nil
}

// require runs a part once and gives what it exports.
func (p *parts) require(name string) (*goja.Object, error) {
	if exports := p.exports[name]; exports != nil {
		return exports, nil
	}
	source, err := p.source(name)
	if err != nil {
		return nil, err
	}
	program, err := goja.Compile(name, source, true)
	if err != nil {
		return nil, err
	}
	made, err := p.vm.RunProgram(program)
	if err != nil {
		return nil, err
	}
	run, _ := goja.AssertFunction(made)
	// Known before it has run: parts may need each other.
	exports := p.vm.NewObject()
	p.exports[name] = exports
	_, err = run(goja.Undefined(), exports, p.required)
	return exports, err
}

func (p *parts) source(name string) (string, error) {
	packed := p.packed[name]
	if packed == nil {
		return "", fmt.Errorf("this program has no part %s", name)
	}
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return "", err
	}
	source, err := io.ReadAll(reader)
	return string(source), err
}
