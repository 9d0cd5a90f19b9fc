// SPDX-License-Identifier: BSD-2-Clause

package listen

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// ServeHTTP answers on l, with most and hurry as in limit, until ctx ends. Then requests
// in progress get patience before they are cut off. It closes l, and returns when all of
// that is over; an end by ctx is not an error.
func ServeHTTP(ctx context.Context, l net.Listener, s *http.Server, most int, hurry bool, patience time.Duration) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		if s.Shutdown(patient) != nil {
			_ = s.Close()
		}
	})
	defer func() {
		if !stop() {
			<-ended // http.Server's own Serve returns as soon as the end has begun
		}
	}()
	if err := limit(l, most, hurry).Serve(s); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
