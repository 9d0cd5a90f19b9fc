// SPDX-License-Identifier: BSD-2-Clause

package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// metricsOf is the address of the metrics of a gate whose directory gateDir has made.
func metricsOf(dir string) string {
	text, _ := os.ReadFile(filepath.Join(dir, "rcptgate.toml"))
	_, rest, _ := strings.Cut(string(text), `http = "`)
	address, _, _ := strings.Cut(rest, `"`)
	return "http://" + address + "/metrics"
}

// metric reads one value of a gate's metrics: the first of that name with a label.
func metric(ctx context.Context, metrics, name, label string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, metrics, http.NoBody)
	if err != nil {
		return 0, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if labels, value, ok := strings.Cut(line, "} "); ok && strings.HasPrefix(labels, name+"{") && strings.Contains(labels, label) {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("the gate's metrics have no %s with %q", name, label)
}
