package tools

import (
	"testing"

	debversion "github.com/knqyf263/go-deb-version"
)

// BenchmarkVersions compares two versions as this package does, and as the library does.
func BenchmarkVersions(b *testing.B) {
	x, y := "1:13.11-0+deb11u1", "1:13.8-0+deb11u1"
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			if compareVersions(x, y) <= 0 {
				b.Fatal("wrong")
			}
		}
	})
	b.Run("go-deb-version", func(b *testing.B) {
		for b.Loop() {
			v, _ := debversion.NewVersion(x)
			w, _ := debversion.NewVersion(y)
			if v.Compare(w) <= 0 {
				b.Fatal("wrong")
			}
		}
	})
}
