package hosttest

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Wire is a connection to a port of this machine as if it were far away.
type Wire struct {
	Port  string
	Bytes atomic.Int64 // both ways

	delay time.Duration
	left  atomic.Int64 // bytes until it is cut; negative: never
	mu    sync.Mutex
	open  map[net.Conn]bool
}

// StartWire makes one that delays whatever goes through it, each way.
func StartWire(t testing.TB, to string, delay time.Duration) *Wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{delay: delay, open: map[net.Conn]bool{}}
	w.left.Store(-1)
	_, w.Port, _ = net.SplitHostPort(l.Addr().String())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", "127.0.0.1:"+to)
			if err != nil {
				near.Close()
				continue
			}
			w.keep(near, far)
			all.Go(func() { w.carry(far, near) })
			all.Go(func() { w.carry(near, far) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.Cut()
		all.Wait()
	})
	return w
}

func (w *Wire) keep(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.open[c] = true
	}
}

// Cut breaks all connections.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.open {
		c.Close()
	}
	clear(w.open)
}

// CutAfter breaks all connections once so many more bytes have gone through.
func (w *Wire) CutAfter(bytes int64) { w.left.Store(bytes) }

// carry takes bytes from one end to the other, each as late as all others.
func (w *Wire) carry(to, from net.Conn) {
	type parcel struct {
		due   time.Time
		bytes []byte
	}
	line := make(chan parcel, 1024)
	var sent sync.WaitGroup
	sent.Go(func() {
		broken := false
		for p := range line {
			time.Sleep(time.Until(p.due))
			if !broken {
				_, err := to.Write(p.bytes)
				broken = err != nil
			}
		}
		to.Close()
	})
	for {
		b := make([]byte, 64<<10)
		n, err := from.Read(b)
		w.Bytes.Add(int64(n))
		if left := w.left.Load(); left >= 0 && w.left.Add(-int64(n)) < 0 {
			w.left.Store(-1)
			w.Cut()
		}
		if n > 0 {
			line <- parcel{time.Now().Add(w.delay), b[:n]}
		}
		if err != nil {
			break
		}
	}
	close(line)
	sent.Wait()
}
