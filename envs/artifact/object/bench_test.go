package object_test

import (
	"testing"

	"github.com/stead-env/stead/envs/artifact/object"
)

// some are this machine's own objects, with their records.
func some(b *testing.B) (paths []string, objects []*object.Object, records [][]byte) {
	for _, path := range libraries(b) {
		if o, err := read(path); err == nil {
			paths, objects, records = append(paths, path), append(objects, o), append(records, o.AppendRecord(nil))
		}
	}
	return paths, objects, records
}

func symbols(objects []*object.Object) (n int) {
	for _, o := range objects {
		n += len(o.Exports) + len(o.Imports)
	}
	return n
}

func BenchmarkRead(b *testing.B) {
	paths, objects, _ := some(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, path := range paths {
			if _, err := read(path); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*symbols(objects)), "ns/symbol")
}

func BenchmarkAppendRecord(b *testing.B) {
	_, objects, _ := some(b)
	var buf []byte
	for b.Loop() {
		for _, o := range objects {
			buf = o.AppendRecord(buf[:0])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*symbols(objects)), "ns/symbol")
}

func BenchmarkParseRecord(b *testing.B) {
	_, objects, records := some(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range records {
			if _, err := object.ParseRecord(r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*symbols(objects)), "ns/symbol")
}

// BenchmarkNamed looks all imports up in all of some objects: what most look-ups end in is
// that there is no such name.
func BenchmarkNamed(b *testing.B) {
	_, objects, _ := some(b)
	n := 0
	for b.Loop() {
		for _, o := range objects {
			for _, s := range o.Imports {
				hash := object.Hash(s.Name)
				for _, in := range objects[:20] {
					in.NamedHash(hash, s.Name)
					n++
				}
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/look-up")
}
