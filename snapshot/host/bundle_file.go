package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// PartialBundle is the ending of a bundle's file that isn't whole yet.
const PartialBundle = ".part"

// WriteFile writes the bundle to a file, which appears when it is whole, or to stdout
// for "-". It is compressed with gzip where the name ends in .gz, else with zstd.
func (p *BundlePlan) WriteFile(ctx context.Context, name string, stdout io.Writer) (sum *BundleSummary, err error) {
	if name == "-" {
		return p.compress(ctx, name, stdout)
	}
	f, err := os.OpenFile(name+PartialBundle, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing the bundle: %w", err)
	}
	sum, err = p.compress(ctx, name, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(f.Name()))
	}
	return sum, nil
}

func (p *BundlePlan) compress(ctx context.Context, name string, w io.Writer) (*BundleSummary, error) {
	var z io.WriteCloser
	var err error
	if strings.HasSuffix(name, ".gz") {
		z = gzip.NewWriter(w)
	} else if z, err = zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)); err != nil {
		return nil, err
	}
	sum, err := p.Write(ctx, z)
	if err != nil {
		return nil, err
	}
	return sum, z.Close()
}
