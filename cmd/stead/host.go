package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/stead-env/stead/snapshot"
)

// openedHost is a host that is open until it is closed.
type openedHost interface {
	snapshot.Host
	io.Closer
}

// schemes are the ways to reach a host, by what stands before the colon of its
// address. Each gets what follows the colon, and returns the address as target.toml
// keeps it.
var schemes = map[string]func(ctx context.Context, rest string, w *work) (openedHost, string, error){
	"bundle":  openBundle,
	"image":   openImage,
	"list":    openList,
	"session": openSession,
	"ssh":     openSSH,
}

// openHost opens a host by its address: a folder, or SCHEME:REST.
func openHost(ctx context.Context, address string, w *work) (openedHost, string, error) {
	if scheme, rest, ok := strings.Cut(address, ":"); ok && !strings.Contains(scheme, "/") {
		if open := schemes[scheme]; open != nil {
			return open(ctx, rest, w)
		}
		if _, err := os.Lstat(address); err != nil {
			return nil, "", &hintError{fmt.Errorf("opening host %s: hosts by %s can't be read yet", address, scheme),
				"copy or mount its root, and give the folder"}
		}
	}
	abs, err := filepath.Abs(address)
	if err != nil {
		return nil, "", err
	}
	h, err := openFolder(ctx, abs, w)
	return h, abs, err
}
