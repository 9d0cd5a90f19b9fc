// SPDX-License-Identifier: BSD-2-Clause

package maincf

import "os"

// Defaults gives the defaults of the parameters that decide about recipients, as "postconf
// -d" of Postfix 3.7 prints them, unexpanded. Dir is the configuration directory. "myhostname" is the name of the machine.
func Defaults(dir string) map[string]string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return map[string]string{
		"alias_database":                   "hash:/etc/aliases",
		"alias_maps":                       "hash:/etc/aliases",
		"allow_percent_hack":               "yes",
		"append_at_myorigin":               "yes",
		"append_dot_mydomain":              "${{$compatibility_level} <level {1} ? {yes} : {no}}",
		"canonical_classes":                "envelope_sender, envelope_recipient, header_sender, header_recipient",
		"compatibility_level":              "0",
		"config_directory":                 dir,
		"default_database_type":            "hash",
		"inet_interfaces":                  "all",
		"local_recipient_maps":             "proxy:unix:passwd.byname $alias_maps",
		"local_transport":                  "local:$myhostname",
		"mydestination":                    "$myhostname, localhost.$mydomain, localhost",
		"myorigin":                         "$myhostname",
		"owner_request_special":            "yes",
		"parent_domain_matches_subdomains": "debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,qmqpd_authorized_clients,relay_domains,smtpd_access_maps",
		"propagate_unmatched_extensions":   "canonical, virtual",
		"recipient_canonical_classes":      "envelope_recipient, header_recipient",
		"relay_domains":                    "${{$compatibility_level} <level {2} ? {$mydestination} : {}}",
		"relay_transport":                  "relay",
		"swap_bangpath":                    "yes",
		"virtual_alias_domains":            "$virtual_alias_maps",
		"virtual_alias_maps":               "$virtual_maps",
		"virtual_mailbox_domains":          "$virtual_mailbox_maps",
		"virtual_transport":                "virtual",
		"myhostname":                       host,
	}
}
