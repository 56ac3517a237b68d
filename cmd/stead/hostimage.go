package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host"
)

// openImage opens image:FILE or image:FILE#REF. A file whose own name has a # in it is
// taken as it is.
func openImage(ctx context.Context, rest string, w *work) (openedHost, string, error) {
	name, ref := rest, ""
	if _, err := os.Lstat(rest); err != nil {
		if i := strings.LastIndexByte(rest, '#'); i >= 0 {
			name, ref = rest[:i], rest[i+1:]
		}
	}
	abs, err := filepath.Abs(name)
	if err != nil {
		return nil, "", err
	}
	dir, err := w.config.Store.WorkDir("image")
	if err != nil {
		return nil, "", err
	}
	im, err := host.OpenImage(ctx, abs, ref, dir, w.config.Progress)
	if err != nil {
		return nil, "", err
	}
	address := "image:" + abs
	if ref != "" {
		address += "#" + ref
	}
	return im, address, nil
}

// architectureOf is what a host says of itself beside its package database; "" where
// it says nothing.
func architectureOf(h snapshot.Host) string {
	if says, ok := h.(interface{ Architecture() string }); ok {
		return says.Architecture()
	}
	return ""
}
