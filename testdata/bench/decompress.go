package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"golang.org/x/sync/errgroup"
)

// decompressAll only decompresses package files, as many at a time as there are
// processors, with the decoders that stead uses: nothing that unpacks them can be faster.
func decompressAll(ctx context.Context, debs []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, deb := range debs {
		g.Go(func() error {
			if err := decompressOne(deb); err != nil {
				return fmt.Errorf("%s: %w", deb, err)
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// decompressOne walks through the members of one .deb, which is an ar archive.
func decompressOne(deb string) error {
	f, err := os.Open(deb)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	if _, err := r.Discard(8); err != nil {
		return err
	}
	for {
		var header [60]byte
		if _, err := io.ReadFull(r, header[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil {
			return err
		}
		member := io.LimitReader(r, size+size%2)
		var plain io.Reader = member
		switch name := strings.TrimRight(string(header[:16]), " /"); {
		case strings.HasSuffix(name, ".xz"):
			plain, err = xz.NewReader(io.LimitReader(member, size), 0)
		case strings.HasSuffix(name, ".zst"):
			plain, err = zstd.NewReader(io.LimitReader(member, size))
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, plain); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, member); err != nil {
			return err
		}
	}
}
