//! Expands the rows of the table: for each name, a module with the exported function and the types
//! that stand for it in [`super::enter`] and [`super::function`].
//!
//! The macros only put the parts of a row in their places. What happens in a call is in the generic
//! functions.

/// All rows: the names, the addresses, the map of system call numbers, and a module for each name.
macro_rules! hooks {
    ($( $section:literal { $(
        fn $first:ident $(, $alias:ident)* ( $($argument:tt)* ) -> $result:ty
            => $route:ident $(( $($how:tt)* ))? $(, $key:ident $(( $($value:tt)* ))? )* ;
    )* } )*) => {
        /// The names, in the order of [`calltable::NAMES`].
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Index { $($( $first, $($alias,)* )*)* }

        /// The addresses of the libc functions, in the same order. In one array, so that the loader
        /// writes to few pages when it relocates them.
        static ADDRESSES: [AtomicPtr<()>; calltable::COUNT] = [
            $($(
                AtomicPtr::new($first::find as *mut ()),
                $( AtomicPtr::new($alias::find as *mut ()), )*
            )*)*
        ];

        /// Finds the libc functions of all names.
        fn bind_each(objects: &[Option<Object>]) {
            $($(
                function::bind_anyway::<$first::Type>(objects.iter().copied());
                $( function::bind_anyway::<$alias::Type>(objects.iter().copied()); )*
            )*)*
        }

        /// Finds out which of them other libraries interpose.
        fn mark_each() {
            $($(
                function::mark::<$first::Type>();
                $( function::mark::<$alias::Type>(); )*
            )*)*
        }

        /// How the system calls that have a row are made.
        static BY_NUMBER: numbers::SyscallTable =
            numbers::table(&[ $($( numbers::of::<$first::Type>(), )*)* ]);

        $($(
            row! {
                [$first $($alias)*] ($($argument)*) -> $result;
                { $route $(($($how)*))? } { $( $key $(($($value)*))? ; )* }
            }
        )*)*
    };
}

/// One row: hands the arguments to each option.
macro_rules! row {
    ($names:tt $arguments:tt -> $result:ty;
     $route:tt { $( $key:ident $(( $($value:tt)* ))? ; )* }) => {
        names! {
            $names $arguments -> $result; $route { $( { $key $(($($value)*))? } $arguments )* }
        }
    };
}

/// One row: the same for each name.
macro_rules! names {
    ([$($name:ident)*] $arguments:tt -> $result:ty; $route:tt $options:tt) => {
        $( hook! { $name $arguments -> $result; $route $options } )*
    };
}

/// One name.
macro_rules! hook {
    ($name:ident ($($arg:ident : $type:ty),*) -> $result:ty;
     { Everywhere($($handler:tt)*) } $options:tt) => {
        #[allow(
            non_snake_case, static_mut_refs, missing_abi, dead_code, unused_variables,
            clippy::too_many_arguments
        )]
        pub mod $name {
            use super::*;

            redhook::hook! {
                unsafe fn $name($($arg: $type),*) -> $result => hook {
                    $($handler)*(libc(), $($arg),*)
                }
            }

            function! { $name ($($arg: $type),*) -> $result; $options }
        }
    };
    ($name:ident ($($arg:ident : $type:ty),*) -> $result:ty;
     $route:tt { $( $option:tt $arguments:tt )* }) => {
        #[allow(
            non_snake_case, static_mut_refs, missing_abi, dead_code, unused_variables,
            clippy::too_many_arguments
        )]
        pub mod $name {
            use super::*;

            redhook::hook! {
                unsafe fn $name($($arg: $type),*) -> $result => hook {
                    // SAFETY: our caller guarantees what the libc function requires.
                    unsafe { enter::enter::<Type>(($($arg,)*)) }
                }
            }

            /// A call on an attached thread.
            #[inline(never)]
            unsafe fn attached(slot: *const Slot, $($arg: $type),*) -> $result {
                // SAFETY: our caller makes the same promise.
                unsafe { enter::attached::<Type>(slot, ($($arg,)*)) }
            }

            /// A call on an attached thread, with a record of it.
            #[cold]
            #[inline(never)]
            unsafe fn watched(thread: &Thread, $($arg: $type),*) -> $result {
                // SAFETY: our caller makes the same promise.
                unsafe { enter::watched::<Type>(thread, ($($arg,)*)) }
            }

            /// A call about a descriptor that could not simply be forgotten.
            #[cold]
            #[inline(never)]
            unsafe fn release(fd: c_int, $($arg: $type),*) -> $result {
                // SAFETY: our caller makes the same promise.
                unsafe { enter::release::<Type>(fd, ($($arg,)*)) }
            }

            function! { $name ($($arg: $type),*) -> $result; { $( $option $arguments )* } }

            handler! { $route ($($arg),*) }

            impl Hook for Type {
                #[inline(always)]
                fn convert(call: &Call<'_>, ($($arg,)*): Self::Arguments) -> Verdict<$result> {
                    route! { $route call ($($arg),*) }
                }

                #[inline(always)]
                unsafe fn attached(slot: *const Slot, ($($arg,)*): Self::Arguments) -> $result {
                    // SAFETY: our caller makes the same promise.
                    unsafe { attached(slot, $($arg),*) }
                }

                #[inline(always)]
                unsafe fn watched(thread: &Thread, ($($arg,)*): Self::Arguments) -> $result {
                    // SAFETY: our caller makes the same promise.
                    unsafe { watched(thread, $($arg),*) }
                }

                #[inline(always)]
                unsafe fn release(fd: c_int, ($($arg,)*): Self::Arguments) -> $result {
                    // SAFETY: our caller makes the same promise.
                    unsafe { release(fd, $($arg),*) }
                }

                $( of_hook! { $option $arguments } )*
            }
        }
    };
}

/// The libc function behind a name.
macro_rules! function {
    ($name:ident ($($arg:ident : $type:ty),*) -> $result:ty;
     { $( $option:tt $arguments:tt )* }) => {
        /// Stands for the function in generic code.
        pub enum Type {}

        impl Function for Type {
            type Arguments = ($($type,)*);
            type Result = $result;

            const INDEX: usize = Index::$name as usize;
            const REPLACEMENT: fn() -> *mut () = replacement! { $( $option )* };

            #[inline(always)]
            fn address() -> &'static AtomicPtr<()> {
                &ADDRESSES[Self::INDEX]
            }

            #[inline(always)]
            unsafe fn call(($($arg,)*): Self::Arguments) -> $result {
                // SAFETY: our caller guarantees what the libc function requires.
                unsafe { libc()($($arg),*) }
            }

            $( of_function! { $option $arguments } )*
        }

        type Real = unsafe extern "C" fn($($type),*) -> $result;

        #[inline(always)]
        fn libc() -> Real {
            // SAFETY: the address is always that of a function of this type: `find`, `missing`, the
            // row's replacement, or the function found under the name.
            unsafe { std::mem::transmute::<*mut (), Real>(Type::address().load(Relaxed)) }
        }

        /// The function's address until libc's own is found.
        #[cold]
        pub unsafe extern "C" fn find($($arg: $type),*) -> $result {
            if function::bind::<Type>(loaded::behind()) {
                // SAFETY: our caller guarantees what the libc function requires.
                unsafe { libc()($($arg),*) }
            } else {
                // SAFETY: our caller guarantees what the libc function requires.
                unsafe { Type::unbound(($($arg,)*)) }
            }
        }

        /// The function's address if libc lacks it.
        #[cold]
        unsafe extern "C" fn missing($($arg: $type),*) -> $result {
            // SAFETY: our caller guarantees what the libc function requires.
            unsafe { Type::missing(($($arg,)*)) }
        }

        /// The libc function, for calls that are built from other calls.
        ///
        /// # Safety
        /// The requirements of the libc function apply.
        pub unsafe fn real($($arg: $type),*) -> $result {
            // SAFETY: our caller guarantees what the libc function requires.
            unsafe { libc()($($arg),*) }
        }
    };
}

/// The address of the function that is called if libc lacks the row's function.
macro_rules! replacement {
    ({ otherwise($($function:tt)*) } $( $option:tt )*) => {
        || $($function)* as *mut ()
    };
    ($other:tt $( $option:tt )*) => {
        replacement! { $( $option )* }
    };
    () => {
        || missing as *mut ()
    };
}

/// The options of a row that belong to `Function`.
macro_rules! of_function {
    ({ version($version:literal) } $arguments:tt) => {
        const VERSION: Option<&'static CStr> = Some(c_string(concat!($version, "\0")));
    };
    ({ unbound($($function:tt)*) } ($($arg:ident : $type:ty),*)) => {
        unsafe fn unbound(($($arg,)*): Self::Arguments) -> Self::Result {
            // SAFETY: our caller guarantees what the libc function requires.
            unsafe { $($function)*($($arg),*) }
        }
    };
    ({ renames } $arguments:tt) => {
        const RENAMES: bool = true;
    };
    ({ number(old $number:ident) } $arguments:tt) => {
        #[cfg(target_arch = "x86_64")]
        const NUMBER: Option<c_long> = Some(libc::$number);
        const BY_NUMBER: Option<ByNumber> = Some(numbers::by_words::<Self>);
    };
    ({ number($number:ident) } $arguments:tt) => {
        const NUMBER: Option<c_long> = Some(libc::$number);
        const BY_NUMBER: Option<ByNumber> = Some(numbers::by_words::<Self>);
    };
    ({ number($number:ident, $function:ident) } $arguments:tt) => {
        const NUMBER: Option<c_long> = Some(libc::$number);
        const BY_NUMBER: Option<ByNumber> = Some(numbers::$function);
    };
    ({ system_call(old $number:ident) } $arguments:tt) => {
        #[cfg(target_arch = "x86_64")]
        const NUMBER: Option<c_long> = Some(libc::$number);
    };
    ({ system_call($number:ident) } $arguments:tt) => {
        const NUMBER: Option<c_long> = Some(libc::$number);
    };
    ($option:tt $arguments:tt) => {};
}

/// The options of a row that belong to `Hook`.
macro_rules! of_hook {
    ({ lock } $arguments:tt) => {
        const CHARGE: Charge = Charge::Lock;
    };
    ({ uncharged } $arguments:tt) => {
        const CHARGE: Charge = Charge::Nothing;
    };
    ({ instead($($function:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        fn instead(($($arg,)*): Self::Arguments) -> Option<Self::Result> {
            $($function)*($($arg),*)
        }
    };
    ({ first($($function:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        fn first(thread: &Thread, ($($arg,)*): Self::Arguments) -> Option<Self::Result> {
            $($function)*(thread, $($arg),*)
        }
    };
    ({ early($($function:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        fn early(thread: &Thread, ($($arg,)*): Self::Arguments) -> Option<Self::Result> {
            $($function)*(thread, $($arg),*)
        }
    };
    ({ by($($function:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        unsafe fn plain(($($arg,)*): Self::Arguments) -> Self::Result {
            // SAFETY: our caller guarantees what the libc function requires.
            unsafe { $($function)*(libc(), $($arg),*) }
        }
    };
    ({ forgets($($value:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        fn forget(($($arg,)*): Self::Arguments) -> Option<c_int> {
            $($value)*
        }
    };
    ({ when($($condition:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        fn may_block(($($arg,)*): Self::Arguments) -> bool {
            $($condition)*
        }
    };
    ({ file($($value:tt)*) } ($($arg:ident : $type:ty),*)) => {
        #[inline(always)]
        fn file(($($arg,)*): Self::Arguments) -> Option<c_int> {
            Some($($value)*)
        }
    };
    ($option:tt $arguments:tt) => {};
}

/// The function of a row with the route `Convert`.
macro_rules! handler {
    ({ Convert($($function:tt)*) } ($($arg:ident),*)) => {
        impl Converted for Type {
            #[inline(always)]
            fn handle(call: &Call<'_>, ($($arg,)*): Self::Arguments) -> Verdict {
                $($function)*(call, $($arg),*)
            }
        }
    };
    ($route:tt $arguments:tt) => {};
}

/// Makes a call by the row's route.
macro_rules! route {
    ({ Convert($($function:tt)*) } $call:ident ($($arg:ident),*)) => {
        routes::convert::<Self>($call, ($($arg,)*))
    };
    ({ WithLibc($($function:tt)*) } $call:ident ($($arg:ident),*)) => {
        $($function)*($call, libc(), $($arg),*)
    };
    ({ Offload } $call:ident ($($arg:ident),*)) => {
        routes::offload::<Self>($call, ($($arg,)*))
    };
    ({ Adaptive($kind:ident, $file:expr) } $call:ident ($($arg:ident),*)) => {
        calls::via::adaptive::call_libc($call, CallKind::$kind, $file, || {
            // SAFETY: the libc function, with its caller's arguments, while that call lasts.
            unsafe { libc()($($arg),*) }
        })
    };
    ({ Adaptive($kind:ident, $file:expr, $other:expr) } $call:ident ($($arg:ident),*)) => {
        calls::via::adaptive::call_libc_on_two($call, CallKind::$kind, [$file, $other], || {
            // SAFETY: the libc function, with its caller's arguments, while that call lasts.
            unsafe { libc()($($arg),*) }
        })
    };
    ({ Recorded($twin:ident) } $call:ident ($($arg:ident),*)) => {
        routes::record::<Self>($call, |room| {
            // SAFETY: the libc function, with the caller's arguments and buffers for the result,
            // while that call lasts.
            unsafe {
                super::$twin::real($($arg,)* room.entry, room.text, room.n, room.result)
            }
        })
    };
    ({ Recorded($twin:ident, h_errno) } $call:ident ($($arg:ident),*)) => {
        routes::record::<Self>($call, |room| {
            // SAFETY: the libc function, with the caller's arguments and buffers for the result,
            // while that call lasts.
            unsafe {
                let (entry, text, result) = (room.entry, room.text, room.result);
                super::$twin::real($($arg,)* entry, text, room.n, result, room.h_errno)
            }
        })
    };
    ({ RecordedBy($($function:tt)*) } $call:ident ($($arg:ident),*)) => {
        Verdict::Done($($function)*($call, Self::INDEX, $($arg),*))
    };
    ({ Copied } $call:ident ($($arg:ident),*)) => {{
        // SAFETY: the libc function, with its caller's arguments.
        let result = unsafe { libc()($($arg),*) };
        Verdict::Done(calls::results::copied_text($call, Self::INDEX, result))
    }};
    ({ CopiedBy($($function:tt)*) } $call:ident ($($arg:ident),*)) => {
        Verdict::Done($($function)*($call, Self::INDEX, $($arg),*))
    };
}
