package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
)

// decompressAll only decompresses package files, two at a time, with the decoders that
// stead uses: nothing that unpacks them can be faster.
func decompressAll(ctx context.Context, debs []string) error {
	work := make(chan string)
	errs := make(chan error, 2)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			var first error
			for deb := range work {
				if err := decompressOne(deb); err != nil && first == nil {
					first = fmt.Errorf("%s: %w", deb, err)
				}
			}
			errs <- first
		})
	}
	for _, deb := range debs {
		if ctx.Err() == nil {
			work <- deb
		}
	}
	close(work)
	group.Wait()
	return errors.Join(ctx.Err(), <-errs, <-errs)
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
