// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rcptgate/bench/load"
	"rcptgate/config/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTable(t *testing.T) {
	var table Table
	table.Bar("answers", "10 µs", "20 µs", true, nil)
	table.Bar("slow ones", "1 s", "2 ms", false, map[string]float64{"s": 1})
	table.Figure("more", "7", nil)
	table.Note("on %d processors", 2)
	if table.Missed() != 1 {
		t.Errorf("%d bars are missed, 1 is", table.Missed())
	}
	var b bytes.Buffer
	if err := table.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"| what      | measured | bar   | met? |",
		"|-----------|----------|-------|------|",
		"| answers   | 10 µs    | 20 µs | yes  |",
		"| slow ones | 1 s      | 2 ms  | NO   |",
		"| more      | 7        |       |      |",
		"", "on 2 processors", "",
	}, "\n")
	if b.String() != want {
		t.Errorf("the table is\n%s\nand should be\n%s", b.String(), want)
	}
	b.Reset()
	if err := table.Print(&b, true); err != nil {
		t.Fatal(err)
	}
	var back Table
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Rows) != 3 || *back.Rows[1].Met || back.Rows[2].Met != nil {
		t.Errorf("JSON: %v\n%s", err, b.String())
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := Median(c.list); got != c.want {
			t.Errorf("the median of %v is %v, not %v", c.list, c.want, got)
		}
	}
	if got := MedianRatio([]float64{1, 20, 300}, []float64{2, 10, 100}); got != 2 {
		t.Errorf("the ratios 0.5, 2, 3 have the median 2, not %v", got)
	}
}

// The figures of misses rest on this share.
func TestOneInTwentyIsRefused(t *testing.T) {
	for _, size := range []int{1000, 20_000} {
		r, refused := people(mixedUser, 1, size, domain), 0
		for range size {
			if decide(string(r.Append(nil)))[0] == '5' {
				refused++
			}
		}
		if refused != size/refusedEvery {
			t.Errorf("%d of %d are refused", refused, size)
		}
	}
	for recipient, want := range map[string]byte{"Good10000007@example.com": '2', "good@example.com": '5', "x7@example.com": '5', "mixed12x@example.com": '5'} {
		if got := decide(recipient)[0]; got != want {
			t.Errorf("%s gets %c", recipient, got)
		}
	}
}

func TestUnknownMeasurement(t *testing.T) {
	if _, err := Run(t.Context(), Options{Only: []string{"speed"}}); err == nil || !strings.Contains(err.Error(), "remembered") {
		t.Errorf("a measurement that does not exist gave %v", err)
	}
}

// An echo milter is loaded over a socket of each kind.
func TestSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the load generator needs Linux")
	}
	socket := setting.Socket{Network: "unix", Address: filepath.Join(t.TempDir(), "s")}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := ServeEcho(ctx, socket, socket.Network == "unix"); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	names, err := load.Pattern("u%d@example.com", 100)
	if err != nil {
		t.Fatal(err)
	}
	table := new(Table)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) { // until it listens
		table, err = RunSocket(ctx, Options{Each: 100 * time.Millisecond, Connections: 2}, Target{Socket: socket, Recipients: names})
		if err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if v := table.Rows[1].Values; v["accepted"] == 0 || v["refused"] > 0 || v["temporary"] > 0 {
		t.Errorf("the echo milter's answers: %v", v)
	}
}
