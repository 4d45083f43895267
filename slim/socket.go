package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/gorilla/websocket"
)

const (
	socketBuffer = 16 * 1024
	// How long the other side has to answer a close.
	closeTime      = 30 * time.Second
	closeReasonMax = 123
)

type outgoing struct {
	kind    int
	data    []byte
	written goja.Callable
}

// socket is one WebSocket: a goroutine that reads, one that writes, and the script on the loop.
type socket struct {
	loop      *loop
	onMessage goja.Callable
	onClosed  goja.Callable
	cancel    context.CancelFunc

	mu       sync.Mutex
	conn     *websocket.Conn
	queue    []outgoing
	buffered int
	wake     chan struct{}
	ending   bool // closed or terminated by this side
	closing  []byte
	over     chan struct{} // closed when reading has ended
}

// dial opens a WebSocket: (url, headers, timeoutMs, messageBytesMax, onMessage, onClosed).
func (w *web) dial(call goja.FunctionCall) goja.Value {
	address := call.Argument(0).String()
	headers := http.Header{}
	for name, value := range w.loop.strings(call.Argument(1)) {
		headers.Set(name, value)
	}
	timeout := time.Duration(call.Argument(2).ToFloat() * float64(time.Millisecond))
	limit := call.Argument(3).ToInteger()
	ctx, cancel := context.WithCancel(context.Background())
	s := &socket{
		loop:      w.loop,
		onMessage: w.loop.function(call.Argument(4)),
		onClosed:  w.loop.function(call.Argument(5)),
		cancel:    cancel,
		wake:      make(chan struct{}, 1),
		over:      make(chan struct{}),
	}
	dialer := websocket.Dialer{
		Proxy:            http.ProxyFromEnvironment,
		NetDialContext:   (&net.Dialer{Timeout: timeout}).DialContext,
		TLSClientConfig:  w.tls,
		HandshakeTimeout: timeout,
		ReadBufferSize:   socketBuffer,
		WriteBufferSize:  socketBuffer,
	}
	go s.open(ctx, dialer, address, headers, limit)
	return s.object()
}

func (s *socket) open(ctx context.Context, dialer websocket.Dialer, address string, headers http.Header, limit int64) {
	conn, response, err := dialer.DialContext(ctx, address, headers)
	if err != nil {
		status, reason := 0, err.Error()
		if response != nil && errors.Is(err, websocket.ErrBadHandshake) {
			status = response.StatusCode
			reason = "the upgrade was answered with " + response.Status
		}
		s.closed(websocket.CloseAbnormalClosure, reason, status)
		return
	}
	conn.SetReadLimit(limit)
	s.mu.Lock()
	s.conn = conn
	ending := s.ending
	s.mu.Unlock()
	if ending { // given up while it was opened
		conn.Close()
		s.closed(websocket.CloseAbnormalClosure, "closed before it was open", 0)
		return
	}
	go s.write(conn)
	s.read(conn)
}

// read hands one message to the script and waits until it was taken before it reads the next.
func (s *socket) read(conn *websocket.Conn) {
	taken := make(chan struct{})
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			code, reason := websocket.CloseAbnormalClosure, err.Error()
			var closed *websocket.CloseError
			if errors.As(err, &closed) {
				code, reason = closed.Code, closed.Text
			}
			conn.Close()
			s.closed(code, reason, 0)
			return
		}
		if kind == websocket.TextMessage && !utf8.Valid(data) {
			s.finish(websocket.CloseInvalidFramePayloadData, "")
			continue
		}
		s.loop.post(func() {
			defer close(taken)
			if kind == websocket.TextMessage {
				s.loop.call(s.onMessage, s.loop.vm.ToValue(string(data)))
			} else {
				s.loop.call(s.onMessage, s.loop.vm.ToValue(s.loop.vm.NewArrayBuffer(data)))
			}
		})
		<-taken
		taken = make(chan struct{})
	}
}

// write takes all that waits, and tells of each message when the system has it.
func (s *socket) write(conn *websocket.Conn) {
	for {
		select {
		case <-s.wake:
		case <-s.over:
			s.forget()
			return
		}
		for {
			s.mu.Lock()
			waiting := s.queue
			s.queue = nil
			closing := s.closing
			s.closing = nil
			s.mu.Unlock()
			if len(waiting) == 0 && closing == nil {
				break
			}
			var failed error
			for _, one := range waiting {
				if failed == nil {
					failed = conn.WriteMessage(one.kind, one.data)
				}
				s.taken(one)
			}
			if closing != nil && failed == nil {
				failed = conn.WriteControl(websocket.CloseMessage, closing, time.Now().Add(closeTime))
				_ = conn.SetReadDeadline(time.Now().Add(closeTime))
			}
			if failed != nil {
				conn.Close() // reading fails then, and tells of it
			}
		}
	}
}

func (s *socket) taken(one outgoing) {
	s.mu.Lock()
	s.buffered -= len(one.data)
	s.mu.Unlock()
	if one.written != nil {
		s.loop.post(func() { s.loop.call(one.written) })
	}
}

// forget lets go of what will never be sent.
func (s *socket) forget() {
	s.mu.Lock()
	waiting := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, one := range waiting {
		s.taken(one)
	}
}

func (s *socket) closed(code int, reason string, status int) {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	close(s.over)
	s.forget()
	s.cancel()
	s.loop.post(func() {
		vm := s.loop.vm
		s.loop.call(s.onClosed, vm.ToValue(code), vm.ToValue(reason), vm.ToValue(status))
	})
}

// finish sends a close after what waits.
func (s *socket) finish(code int, reason string) {
	for len(reason) > closeReasonMax || !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1]
	}
	s.mu.Lock()
	if s.ending {
		s.mu.Unlock()
		return
	}
	s.ending = true
	open := s.conn != nil
	s.closing = websocket.FormatCloseMessage(code, reason)
	s.mu.Unlock()
	if !open {
		s.cancel()
	}
	s.nudge()
}

func (s *socket) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *socket) terminate() {
	s.mu.Lock()
	s.ending = true
	conn := s.conn
	s.mu.Unlock()
	s.cancel()
	if conn != nil {
		conn.Close()
	}
}

func (s *socket) send(call goja.FunctionCall) goja.Value {
	one := outgoing{kind: websocket.TextMessage}
	if given := call.Argument(0); isText(given) {
		one.data = []byte(given.String())
	} else {
		one.kind = websocket.BinaryMessage
		one.data = s.loop.bytes(given)
	}
	if !goja.IsUndefined(call.Argument(1)) {
		one.written = s.loop.function(call.Argument(1))
	}
	s.mu.Lock()
	if s.ending || s.conn == nil {
		s.mu.Unlock()
		if one.written != nil {
			s.loop.call(one.written)
		}
		return goja.Undefined()
	}
	s.queue = append(s.queue, one)
	s.buffered += len(one.data)
	s.mu.Unlock()
	s.nudge()
	return goja.Undefined()
}

func isText(value goja.Value) bool {
	_, is := value.(goja.String)
	return is
}

func (s *socket) object() goja.Value {
	vm := s.loop.vm
	object := vm.NewObject()
	_ = object.Set("send", s.send)
	_ = object.Set("bufferedBytes", func(goja.FunctionCall) goja.Value {
		s.mu.Lock()
		defer s.mu.Unlock()
		return vm.ToValue(s.buffered)
	})
	_ = object.Set("close", func(call goja.FunctionCall) goja.Value {
		s.finish(int(call.Argument(0).ToInteger()), call.Argument(1).String())
		return goja.Undefined()
	})
	_ = object.Set("terminate", func(goja.FunctionCall) goja.Value {
		s.terminate()
		return goja.Undefined()
	})
	return object
}
