package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/dop251/goja"
)

const (
	// How long a living program has to take a connection.
	probeTime = time.Second
	// Two that start at once take turns; a lock this old was left by one that was killed.
	lockStale = 5 * time.Second
	lockRetry = 20 * time.Millisecond
	// For the last words to those who still listen.
	serveEnd = 300 * time.Millisecond
)

var errTaken = errors.New("served by another program")

// serve answers HTTP at a unix socket or named pipe:
// (endpoint, {bodyBytes, connections, requestMs}, onRequest(method, path, body, reply)) → Promise<{close(): Promise}>.
// It resolves with null where a living program answers there.
func (l *loop) serve(call goja.FunctionCall) goja.Value {
	endpoint := call.Argument(0).String()
	limits := call.Argument(1).ToObject(l.vm)
	bodyMax := limits.Get("bodyBytes").ToInteger()
	connections := limits.Get("connections").ToInteger()
	requestTime := time.Duration(limits.Get("requestMs").ToFloat() * float64(time.Millisecond))
	onRequest := l.function(call.Argument(2))
	return l.promise(func() (func() any, error) {
		listener, err := listenLocal(endpoint)
		if errors.Is(err, errTaken) {
			return func() any { return goja.Null() }, nil
		}
		if err != nil {
			return nil, err
		}
		server := &http.Server{
			Handler: http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
				l.handle(writer, request, bodyMax, onRequest)
			}),
			ReadTimeout: requestTime,
		}
		go server.Serve(&boundedListener{Listener: listener, most: connections})
		return func() any {
			serving := l.vm.NewObject()
			_ = serving.Set("close", func(goja.FunctionCall) goja.Value {
				return l.promise(func() (func() any, error) {
					forget := time.AfterFunc(serveEnd, func() { server.Close() })
					defer forget.Stop()
					_ = server.Shutdown(newTimeout(2 * serveEnd))
					return nil, nil
				})
			})
			return serving
		}, nil
	})
}

// boundedListener takes so many connections at once, and closes those above.
type boundedListener struct {
	net.Listener
	most int64
	open atomic.Int64
}

type countedConn struct {
	net.Conn
	closed atomic.Bool
	open   *atomic.Int64
}

func (b *boundedListener) Accept() (net.Conn, error) {
	for {
		conn, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b.open.Add(1) > b.most {
			b.open.Add(-1)
			conn.Close()
			continue
		}
		return &countedConn{Conn: conn, open: &b.open}, nil
	}
}

func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.open.Add(-1)
	}
	return c.Conn.Close()
}

// handle reads a request whole and lets the script answer: reply has whole(status, body), begin(status), line(text), end().
func (l *loop) handle(writer http.ResponseWriter, request *http.Request, bodyMax int64, onRequest goja.Callable) {
	body, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, bodyMax))
	if err != nil {
		writer.Header().Set("content-type", "application/json")
		writer.WriteHeader(http.StatusRequestEntityTooLarge)
		_, _ = io.WriteString(writer, `{"message":"the body is too large"}`)
		return
	}
	done := make(chan struct{})
	l.post(func() {
		vm := l.vm
		ended := false
		end := func() {
			if !ended {
				ended = true
				close(done)
			}
		}
		reply := vm.NewObject()
		_ = reply.Set("whole", func(call goja.FunctionCall) goja.Value {
			if !ended {
				writer.Header().Set("content-type", "application/json")
				writer.WriteHeader(int(call.Argument(0).ToInteger()))
				_, _ = io.WriteString(writer, call.Argument(1).String())
				end()
			}
			return goja.Undefined()
		})
		_ = reply.Set("begin", func(call goja.FunctionCall) goja.Value {
			writer.Header().Set("content-type", "application/jsonl")
			writer.WriteHeader(int(call.Argument(0).ToInteger()))
			_ = http.NewResponseController(writer).Flush()
			return goja.Undefined()
		})
		_ = reply.Set("line", func(call goja.FunctionCall) goja.Value {
			text := call.Argument(0).String() + "\n"
			return l.promise(func() (func() any, error) {
				if _, err := io.WriteString(writer, text); err != nil {
					return nil, err
				}
				return nil, http.NewResponseController(writer).Flush()
			})
		})
		_ = reply.Set("end", func(goja.FunctionCall) goja.Value {
			end()
			return goja.Undefined()
		})
		_ = reply.Set("onGone", func(call goja.FunctionCall) goja.Value {
			callback := l.function(call.Argument(0))
			go func() {
				select {
				case <-request.Context().Done():
					l.post(func() { l.call(callback) })
				case <-done:
				}
			}()
			return goja.Undefined()
		})
		l.call(onRequest, vm.ToValue(request.Method), vm.ToValue(request.URL.RequestURI()), vm.ToValue(string(body)), reply)
	})
	<-done
}

// claim runs work while no other program claims the same endpoint, and only where no living one answers.
func claim(endpoint string, work func() (net.Listener, error)) (net.Listener, error) {
	lock := endpoint + ".lock"
	for {
		err := os.Mkdir(lock, 0o700)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		if held, err := os.Stat(lock); err == nil && time.Since(held.ModTime()) > lockStale {
			_ = os.Remove(lock)
		} else {
			time.Sleep(lockRetry)
		}
	}
	defer os.Remove(lock)
	conn, err := dialLocal(newTimeout(probeTime), endpoint)
	if err == nil {
		conn.Close()
		return nil, errTaken
	}
	if code := codeOf(err); code != "ENOENT" && code != "ECONNREFUSED" {
		return nil, errTaken // stopped or swamped, and there all the same
	}
	return work()
}
