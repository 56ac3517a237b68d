package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// benchHost is a host that tests have made before, or the machine itself.
func benchHost(b *testing.B) string {
	found, _ := filepath.Glob("/var/cache/stead-test/server-host-*/host")
	if dir := os.Getenv("STEAD_BENCH_HOST"); dir != "" {
		found = []string{dir}
	}
	if len(found) == 0 {
		b.Skip("no host was made on this machine yet")
	}
	return found[0]
}

func BenchmarkBuild(b *testing.B) {
	src := folderSource(b, benchHost(b))
	for b.Loop() {
		c := chunks{}
		index, err := Build(b.Context(), src, nil, c.emit)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(index)), "index-bytes")
		b.ReportMetric(float64(len(c)), "chunks")
	}
}

func benchIndex(b *testing.B) (index []byte, c chunks) {
	c = chunks{}
	index, err := Build(b.Context(), folderSource(b, benchHost(b)), nil, c.emit)
	if err != nil {
		b.Fatal(err)
	}
	return index, c
}

func BenchmarkOpen(b *testing.B) {
	index, c := benchIndex(b)
	for b.Loop() {
		if _, err := Open(index, "x86-64-v3", c.load); err != nil {
			b.Fatal(err)
		}
	}
}

// One program and its library, out of compressed chunks.
func BenchmarkOneProgram(b *testing.B) {
	index, c := benchIndex(b)
	small := chunks{}
	enc, _ := zstd.NewWriter(nil)
	total := 0
	for d, data := range c {
		small[d] = enc.EncodeAll(data, nil)
		total += len(small[d])
	}
	for b.Loop() {
		dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		x, err := Open(index, "x86-64-v3", func(d string) ([]byte, error) { return dec.DecodeAll(small[d], nil) })
		if err != nil {
			b.Fatal(err)
		}
		for _, p := range []string{"/usr/bin/python3", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"} {
			f, ok := x.Find(p)
			if !ok {
				b.Fatal(p)
			}
			if _, err := f.Object(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(total), "chunk-bytes")
	b.ReportMetric(float64(len(enc.EncodeAll(index, nil))), "index-bytes")
}

// All objects.
func BenchmarkEverything(b *testing.B) {
	index, c := benchIndex(b)
	for b.Loop() {
		x, err := Open(index, "x86-64-v3", c.load)
		if err != nil {
			b.Fatal(err)
		}
		for i := range x.objects {
			if _, err := x.objects[i].read(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// Nothing is new.
func BenchmarkBuildKnown(b *testing.B) {
	index, c := benchIndex(b)
	src := folderSource(b, benchHost(b))
	for b.Loop() {
		x, err := Open(index, "", c.load)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := Build(b.Context(), src, x.Known, chunks{}.emit); err != nil {
			b.Fatal(err)
		}
	}
}
