//! Rows: the resolver and the name services. [`crate`] explains the parts of a row.

/// Passes these rows, behind those before them, to the next file.
#[doc(hidden)]
#[macro_export]
macro_rules! name_services {
    ($callback:tt $more:tt { $($before:tt)* }) => {
        $crate::next_rows! { $callback $more { $($before)*

    "Names and users: the resolver, the name services, their files and sockets" {
        fn getaddrinfo(
            node: *const c_char, service: *const c_char, hints: *const c_void, result: *mut c_void
        ) -> c_int
            => Offload;
        fn getnameinfo(
            address: *const c_void, n: socklen_t, host: *mut c_void, host_n: socklen_t,
            service: *mut c_void, service_n: socklen_t, flags: c_int
        ) -> c_int
            => Offload;
        fn gethostbyname(name: *const c_char) -> *mut c_void
            => Recorded(gethostbyname_r, h_errno);
        fn gethostbyname2(name: *const c_char, family: c_int) -> *mut c_void
            => Recorded(gethostbyname2_r, h_errno);
        fn gethostbyaddr(address: *const c_void, n: socklen_t, family: c_int) -> *mut c_void
            => Recorded(gethostbyaddr_r, h_errno);
        fn gethostbyname_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void, error: *mut c_void
        ) -> c_int
            => Offload;
        fn gethostbyname2_r(
            name: *const c_char, family: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void, error: *mut c_void
        ) -> c_int
            => Offload;
        fn gethostbyaddr_r(
            address: *const c_void, address_n: socklen_t, family: c_int, entry: *mut c_void,
            buf: *mut c_void, n: size_t, result: *mut c_void, error: *mut c_void
        ) -> c_int
            => Offload;
        fn gethostent() -> *mut c_void
            => Recorded(gethostent_r, h_errno);
        fn gethostent_r(
            entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void,
            error: *mut c_void
        ) -> c_int
            => Offload;
        fn sethostent(stay_open: c_int) -> ()
            => Offload;
        fn endhostent() -> ()
            => Offload, without_case(CLOSES);
        fn getnetent() -> *mut c_void
            => Recorded(getnetent_r, h_errno);
        fn getnetent_r(
            entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void,
            error: *mut c_void
        ) -> c_int
            => Offload;
        fn setnetent(stay_open: c_int) -> ()
            => Offload;
        fn endnetent() -> ()
            => Offload, without_case(CLOSES);
        fn getprotoent() -> *mut c_void
            => Recorded(getprotoent_r);
        fn getprotoent_r(
            entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn setprotoent(stay_open: c_int) -> ()
            => Offload;
        fn endprotoent() -> ()
            => Offload, without_case(CLOSES);
        fn getservent() -> *mut c_void
            => Recorded(getservent_r);
        fn getservent_r(
            entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn setservent(stay_open: c_int) -> ()
            => Offload;
        fn endservent() -> ()
            => Offload, without_case(CLOSES);
        fn getpwent() -> *mut c_void
            => Recorded(getpwent_r);
        fn getpwent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int
            => Offload;
        fn setpwent() -> ()
            => Offload;
        fn endpwent() -> ()
            => Offload, without_case(CLOSES);
        fn getgrent() -> *mut c_void
            => Recorded(getgrent_r);
        fn getgrent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int
            => Offload;
        fn setgrent() -> ()
            => Offload;
        fn endgrent() -> ()
            => Offload, without_case(CLOSES);
        fn getspent() -> *mut c_void
            => Recorded(getspent_r);
        fn getspent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int
            => Offload;
        fn setspent() -> ()
            => Offload;
        fn endspent() -> ()
            => Offload, without_case(CLOSES);
        fn getnetbyname(name: *const c_char) -> *mut c_void
            => Recorded(getnetbyname_r, h_errno);
        fn getnetbyname_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void, error: *mut c_void
        ) -> c_int
            => Offload;
        fn getnetbyaddr(net: c_uint, family: c_int) -> *mut c_void
            => Recorded(getnetbyaddr_r, h_errno);
        fn getnetbyaddr_r(
            net: c_uint, family: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void, error: *mut c_void
        ) -> c_int
            => Offload;
        fn getprotobyname(name: *const c_char) -> *mut c_void
            => Recorded(getprotobyname_r);
        fn getprotobyname_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getprotobynumber(number: c_int) -> *mut c_void
            => Recorded(getprotobynumber_r);
        fn getprotobynumber_r(
            number: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn getservbyname(name: *const c_char, protocol: *const c_char) -> *mut c_void
            => Recorded(getservbyname_r);
        fn getservbyname_r(
            name: *const c_char, protocol: *const c_char, entry: *mut c_void, buf: *mut c_void,
            n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn getservbyport(port: c_int, protocol: *const c_char) -> *mut c_void
            => Recorded(getservbyport_r);
        fn getservbyport_r(
            port: c_int, protocol: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getpwnam(name: *const c_char) -> *mut c_void
            => Recorded(getpwnam_r);
        fn getpwuid(user: c_uint) -> *mut c_void
            => Recorded(getpwuid_r);
        fn getpwnam_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getpwuid_r(
            user: c_uint, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn getgrnam(name: *const c_char) -> *mut c_void
            => Recorded(getgrnam_r);
        fn getgrgid(group: c_uint) -> *mut c_void
            => Recorded(getgrgid_r);
        fn getgrnam_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getgrgid_r(
            group: c_uint, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn getgrouplist(
            user: *const c_char, group: c_uint, groups: *mut c_void, n: *mut c_void
        ) -> c_int
            => Offload;
        fn getspnam(name: *const c_char) -> *mut c_void
            => Recorded(getspnam_r);
        fn getspnam_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn innetgr(
            group: *const c_char, host: *const c_char, user: *const c_char, domain: *const c_char
        ) -> c_int
            => Offload;
        fn getaliasbyname(name: *const c_char) -> *mut c_void
            => Recorded(getaliasbyname_r);
        fn getrpcbyname(name: *const c_char) -> *mut c_void
            => Recorded(getrpcbyname_r);
        fn getrpcbynumber(number: c_int) -> *mut c_void
            => Recorded(getrpcbynumber_r);
        fn getaliasbyname_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getrpcbyname_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getrpcbynumber_r(
            number: c_int, entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn getrpcent() -> *mut c_void
            => Recorded(getrpcent_r);
        fn getrpcent_r(
            entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn setrpcent(stay_open: c_int) -> ()
            => Offload;
        fn endrpcent() -> ()
            => Offload, without_case(CLOSES);
        fn getaliasent() -> *mut c_void
            => Recorded(getaliasent_r);
        fn getaliasent_r(
            entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void
        ) -> c_int
            => Offload;
        fn setaliasent() -> ()
            => Offload;
        fn endaliasent() -> ()
            => Offload, without_case(CLOSES);
        fn getsgnam(name: *const c_char) -> *mut c_void
            => Recorded(getsgnam_r);
        fn getsgnam_r(
            name: *const c_char, entry: *mut c_void, buf: *mut c_void, n: size_t,
            result: *mut c_void
        ) -> c_int
            => Offload;
        fn getsgent() -> *mut c_void
            => Recorded(getsgent_r);
        fn getsgent_r(entry: *mut c_void, buf: *mut c_void, n: size_t, result: *mut c_void) -> c_int
            => Offload;
        fn setsgent() -> ()
            => Offload;
        fn endsgent() -> ()
            => Offload, without_case(CLOSES);
        fn ether_hostton(host: *const c_char, address: *mut c_void) -> c_int
            => Offload;
        fn ether_ntohost(host: *mut c_void, address: *const c_void) -> c_int
            => Offload;
        fn getlogin() -> *mut c_char
            => RecordedBy(calls::results::getlogin);
        fn getlogin_r(buf: *mut c_void, n: size_t) -> c_int
            => Offload;
        fn __getlogin_r_chk(buf: *mut c_void, n: size_t, object: size_t) -> c_int
            => Offload;
        fn getpass(prompt: *const c_char) -> *mut c_char
            => Offload;
        fn wordexp(words: *const c_char, result: *mut c_void, flags: c_int) -> c_int
            => Offload;
        fn gethostid() -> c_long
            => Offload;
        fn vsyslog(priority: c_int, format: *const c_char, arguments: *mut c_void) -> ()
            => Offload;
        fn __vsyslog_chk(
            priority: c_int, flag: c_int, format: *const c_char, arguments: *mut c_void
        ) -> ()
            => Offload;
        fn openlog(ident: *const c_char, options: c_int, facility: c_int) -> ()
            => Offload;
        fn closelog() -> ()
            => Offload, without_case(CLOSES);
        fn __res_init() -> c_int
            => Convert(calls::resolver::res_init), without_case(SETTINGS);
        fn res_query, __res_query(
            name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int
        ) -> c_int
            => Convert(calls::resolver::res_query);
        fn res_search, __res_search(
            name: *const c_char, class: c_int, kind: c_int, answer: *mut c_void, n: c_int
        ) -> c_int
            => Convert(calls::resolver::res_search);
        fn res_querydomain, __res_querydomain(
            name: *const c_char, domain: *const c_char, class: c_int, kind: c_int,
            answer: *mut c_void, n: c_int
        ) -> c_int
            => Convert(calls::resolver::res_querydomain);
        fn res_send, __res_send(
            message: *const c_void, message_n: c_int, answer: *mut c_void, n: c_int
        ) -> c_int
            => Convert(calls::resolver::res_send);
        fn res_nquery, __res_nquery(
            state: *mut c_void, name: *const c_char, class: c_int, kind: c_int,
            answer: *mut c_void, n: c_int
        ) -> c_int
            => Offload;
        fn res_nsearch, __res_nsearch(
            state: *mut c_void, name: *const c_char, class: c_int, kind: c_int,
            answer: *mut c_void, n: c_int
        ) -> c_int
            => Offload;
        fn res_nquerydomain, __res_nquerydomain(
            state: *mut c_void, name: *const c_char, domain: *const c_char, class: c_int,
            kind: c_int, answer: *mut c_void, n: c_int
        ) -> c_int
            => Offload;
        fn res_nsend, __res_nsend(
            state: *mut c_void, message: *const c_void, message_n: c_int, answer: *mut c_void,
            n: c_int
        ) -> c_int
            => Offload;
    }
        } }
    };
}
