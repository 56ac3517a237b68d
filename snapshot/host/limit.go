package host

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ParseRate reads a number of bytes for each second: 500000, 500k, 2M.
func ParseRate(s string) (int64, error) {
	digits, unit := s, int64(1)
	for suffix, n := range map[string]int64{"k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30} {
		if d, ok := strings.CutSuffix(s, suffix); ok {
			digits, unit = d, n
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > 1<<40/unit {
		return 0, fmt.Errorf("a rate is a number of bytes for each second, such as 500k or 2M, not %q", s)
	}
	return n * unit, nil
}

// wire counts what goes to a host and comes back, and slows down what comes.
type wire struct {
	sent, received atomic.Int64
	fastest        atomic.Int64 // bytes for each second of the fastest long answer
	rate           int64        // bytes for each second; 0 for no limit

	mu   sync.Mutex
	free time.Time // when the wire is free for the next byte
}

// slice is the most that is read at once where the rate is limited.
func (w *wire) slice() int {
	if w.rate == 0 {
		return 1 << 20
	}
	return int(min(max(w.rate/10, 1), 64<<10))
}

// pause waits until n more bytes may have come.
func (w *wire) pause(ctx context.Context, n int) error {
	if w.rate == 0 {
		return nil
	}
	w.mu.Lock()
	now := time.Now()
	if w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(float64(n) / float64(w.rate) * float64(time.Second)))
	wait := w.free.Sub(now)
	w.mu.Unlock()
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// incoming reads what comes over a wire.
type incoming struct {
	w     *wire
	r     io.Reader
	ctx   context.Context //nolint:containedctx // lives as long as one command
	n     int64
	begun time.Time
}

// longAnswer is from how many bytes on an answer tells how fast the wire is.
const longAnswer = 64 << 10

func (in *incoming) Read(p []byte) (int, error) {
	n, err := in.r.Read(p[:min(len(p), in.w.slice())])
	in.w.received.Add(int64(n))
	if in.n == 0 {
		in.begun = time.Now()
	} else if took := time.Since(in.begun).Seconds(); in.n > longAnswer && took > 0.05 {
		rate := int64(float64(in.n) / took)
		if fastest := in.w.fastest.Load(); rate > fastest {
			in.w.fastest.CompareAndSwap(fastest, rate)
		}
	}
	in.n += int64(n)
	if wait := in.w.pause(in.ctx, n); wait != nil {
		return n, wait
	}
	return n, err
}

// outgoing counts what is sent.
type outgoing struct {
	w *wire
	r io.Reader
}

func (out outgoing) Read(p []byte) (int, error) {
	n, err := out.r.Read(p)
	out.w.sent.Add(int64(n))
	return n, err
}
