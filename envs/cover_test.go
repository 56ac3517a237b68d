package envs

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// bruteCover tries all sets of builds, the smallest and lowest first.
func bruteCover(serves []uint64) []int {
	n := len(serves)
	all := uint64(1)<<n - 1
	var best []int
	for set := range uint64(1) << n {
		var covered uint64
		var list []int
		for i := range n {
			if set&(1<<i) != 0 {
				covered |= serves[i]
				list = append(list, i)
			}
		}
		if covered&all == all && (best == nil || len(list) < len(best) || len(list) == len(best) && slices.Compare(list, best) < 0) {
			best = list
		}
	}
	return best
}

func randomServes(r *rand.Rand, n int, density float64) []uint64 {
	serves := make([]uint64, n)
	for i := range serves {
		serves[i] = 1 << i
		for j := range n {
			if r.Float64() < density {
				serves[i] |= 1 << j
			}
		}
	}
	return serves
}

func TestCoverIsTheFewest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		n := 1 + r.IntN(11)
		serves := randomServes(r, n, r.Float64()*r.Float64())
		if got, want := cover(serves), bruteCover(serves); !slices.Equal(got, want) {
			t.Fatalf("%b: %v instead of %v", serves, got, want)
		}
	}
}

// With 64 targets every choice covers, whatever the relation.
func TestCoverOfMany(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, density := range []float64{0, 0.02, 0.05, 0.1, 0.2, 0.5, 1} {
		serves := randomServes(r, maxExact, density)
		var covered uint64
		for _, i := range cover(serves) {
			covered |= serves[i]
		}
		if bits.OnesCount64(covered) != maxExact {
			t.Errorf("density %g: %b isn't covered", density, ^covered)
		}
	}
	if cover(nil) != nil {
		t.Error("no targets need a build")
	}
}
