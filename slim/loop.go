package main

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"
)

// loop runs everything that touches the script engine on one goroutine. Others post to it.
type loop struct {
	vm *goja.Runtime

	mu     sync.Mutex
	posted []func()
	wake   chan struct{}
	turns  atomic.Uint64

	// Only on the loop's goroutine:
	soon      []func()
	unhandled map[*goja.Promise]goja.Value
	onFault   func(text string)
	onExit    []goja.Callable
}

func newLoop(vm *goja.Runtime) *loop {
	l := &loop{
		vm:        vm,
		wake:      make(chan struct{}, 1),
		unhandled: map[*goja.Promise]goja.Value{},
		onFault: func(text string) {
			restoreTerminal()
			fmt.Fprintln(os.Stderr, text)
			os.Exit(1)
		},
	}
	vm.SetPromiseRejectionTracker(func(promise *goja.Promise, operation goja.PromiseRejectionOperation) {
		if operation == goja.PromiseRejectionReject {
			l.unhandled[promise] = promise.Result()
		} else {
			delete(l.unhandled, promise)
		}
	})
	return l
}

// post runs work on the loop's goroutine, in order.
func (l *loop) post(work func()) {
	l.mu.Lock()
	l.posted = append(l.posted, work)
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run goes on until the process exits: a turn is all that was posted, then what was put off with "soon" before it.
func (l *loop) run() {
	var work []func()
	for {
		l.mu.Lock()
		work, l.posted = l.posted, work[:0]
		l.mu.Unlock()
		if len(work) == 0 && len(l.soon) == 0 {
			<-l.wake
			continue
		}
		l.turns.Add(1)
		for i, one := range work {
			one()
			work[i] = nil
		}
		soon := l.soon
		l.soon = nil
		for _, one := range soon {
			one()
		}
		l.checkUnhandled()
	}
}

// checkUnhandled ends the process for a rejection that nobody listens to, as Node does.
func (l *loop) checkUnhandled() {
	for promise, reason := range l.unhandled {
		delete(l.unhandled, promise)
		l.onFault("uncaught rejection: " + describeValue(reason))
	}
}

// call calls back into the script. What it throws has nobody else to go to.
func (l *loop) call(function goja.Callable, args ...goja.Value) {
	if _, err := function(goja.Undefined(), args...); err != nil {
		l.onFault("uncaught error: " + describeError(err))
	}
}

func describeError(err error) string {
	if exception, ok := err.(*goja.Exception); ok {
		return exception.String()
	}
	return err.Error()
}

func describeValue(value goja.Value) string {
	if object, ok := value.(*goja.Object); ok {
		if stack := object.Get("stack"); stack != nil && !goja.IsUndefined(stack) {
			return stack.String()
		}
	}
	if value == nil {
		return "undefined"
	}
	return value.String()
}

// promise does work beside the loop and settles with what it made. The result is turned into a value on the loop.
func (l *loop) promise(work func() (func() any, error)) goja.Value {
	promise, resolve, reject := l.vm.NewPromise()
	go func() {
		result, err := work()
		l.post(func() {
			if err != nil {
				_ = reject(l.errorValue(err))
				return
			}
			if result == nil {
				_ = resolve(goja.Undefined())
				return
			}
			_ = resolve(result())
		})
	}()
	return l.vm.ToValue(promise)
}

// errorValue is an Error with the code that Node would give it.
func (l *loop) errorValue(err error) goja.Value {
	object, failed := l.vm.New(l.vm.Get("Error"), l.vm.ToValue(err.Error()))
	if failed != nil {
		return l.vm.ToValue(err.Error())
	}
	if code := codeOf(err); code != "" {
		_ = object.Set("code", code)
	}
	return object
}

// after calls back once; the answer calls it off.
func (l *loop) after(call goja.FunctionCall) goja.Value {
	ms := call.Argument(0).ToFloat()
	callback := l.function(call.Argument(1))
	done := false
	timer := time.AfterFunc(time.Duration(ms*float64(time.Millisecond)), func() {
		l.post(func() {
			if !done {
				done = true
				l.call(callback)
			}
		})
	})
	return l.vm.ToValue(func(goja.FunctionCall) goja.Value {
		done = true
		timer.Stop()
		return goja.Undefined()
	})
}

// function is what the script must give as a function.
func (l *loop) function(value goja.Value) goja.Callable {
	function, ok := goja.AssertFunction(value)
	if !ok {
		panic(l.vm.NewTypeError("a function is needed"))
	}
	return function
}

// bytes are what the script gave as a Uint8Array or an ArrayBuffer: its own memory, not a copy.
func (l *loop) bytes(value goja.Value) []byte {
	switch exported := value.Export().(type) {
	case []byte:
		return exported
	case goja.ArrayBuffer:
		return exported.Bytes()
	}
	panic(l.vm.NewTypeError("bytes are needed"))
}

// strings are the members of an object whose values are strings.
func (l *loop) strings(value goja.Value) map[string]string {
	result := map[string]string{}
	object, ok := value.(*goja.Object)
	if !ok {
		return result
	}
	for _, name := range object.Keys() {
		if member := object.Get(name); member != nil && !goja.IsUndefined(member) {
			result[name] = member.String()
		}
	}
	return result
}

// list is an array of strings.
func (l *loop) list(value goja.Value) []string {
	var result []string
	if err := l.vm.ExportTo(value, &result); err != nil {
		panic(l.vm.NewTypeError(err.Error()))
	}
	return result
}

// optionalText is "" and false where nothing was given.
func optionalText(value goja.Value) (string, bool) {
	if value == nil || goja.IsUndefined(value) || goja.IsNull(value) {
		return "", false
	}
	return value.String(), true
}
