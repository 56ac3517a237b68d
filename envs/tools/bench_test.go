package tools

import (
	"errors"
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

// BenchmarkSolve chooses from all that this machine's archive has, for a base that is
// behind it and for no base at all.
func BenchmarkSolve(b *testing.B) {
	a := readArchive(b, "/")
	var base Base
	for _, c := range a.behind(b, server) {
		base.Packages = append(base.Packages, Installed{Name: c.Name, Version: c.Version, Architecture: c.Architecture, Relations: c.Relations})
	}
	for _, bench := range []struct {
		name, wishes string
		base         []Installed
	}{
		{"tools", "build-essential, libssl-dev, libpq-dev, pkg-config, cmake, python3-dev", base.Packages},
		{"desktop", "gnome, kde-full, texlive-full", base.Packages},
		{"from nothing", "gnome, kde-full, texlive-full", nil},
		{"impossible", "libc6-dev=1", base.Packages},
	} {
		b.Run(bench.name, func(b *testing.B) {
			packages := 0
			for b.Loop() {
				answer, err := Solve(b.Context(), Base{Architecture: a.arch, Packages: bench.base}, a.offers, parseWishes(bench.wishes))
				if none := new(UnsolvableError); err != nil && !errors.As(err, &none) {
					b.Fatal(err)
				} else if err == nil {
					packages = len(answer.Packages)
				} else if bench.name != "impossible" {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(packages), "packages")
			b.ReportMetric(float64(len(a.offers)), "offers")
		})
	}
}
